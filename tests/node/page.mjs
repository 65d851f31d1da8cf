// Opens a page in Chromium, clicks its #gen and reports the first thing that a visitor then meets.
import { launch } from "./chromium.mjs";

const [executablePath, url] = process.argv.slice(2);
const browser = await launch(executablePath);
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(10_000);
  await page.goto(url);
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
