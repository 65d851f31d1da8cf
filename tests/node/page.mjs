// Opens a page in Chromium, clicks its #gen and reports the first thing that a visitor then meets. The
// answer to the first request that matches `lost` does not arrive; its alert is followed by a second click.
import { launch } from "./chromium.mjs";

const [executablePath, url, lost] = process.argv.slice(2);
const browser = await launch(executablePath);
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(10_000);
  await page.goto(url);
  if (lost) {
    const lose = (route) => route.fetch().then(() => route.abort());
    await page.route(lost, lose, { times: 1 });
    const alerted = page.waitForEvent("dialog").then((dialog) => dialog.accept());
    await page.click("#gen");
    await alerted;
  }
  const met = Promise.race([
    page.waitForEvent("dialog").then(async (dialog) => {
      await dialog.accept(); // until then the page stands still, and so would the click
      return { alert: dialog.message() };
    }),
    page.waitForEvent("pageerror").then((error) => ({ error: error.message })),
    page
      .waitForFunction(() => {
        const { naturalWidth: width, naturalHeight: height, src } = document.images[0];
        return width > 0 && { width, height, src };
      })
      .then((handle) => handle.jsonValue())
      .then((picture) => ({ picture })),
  ]);
  await page.click("#gen");
  console.log(JSON.stringify(await met));
} finally {
  await browser.close();
}
