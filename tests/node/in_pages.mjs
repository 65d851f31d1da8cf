// Calls in pages of Chromium: a line of JSON orders one, a line reports it, until the input ends.
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { launch } from "./chromium.mjs";

const LONGEST_MS = 12_000;
const browser = await launch(process.argv[2]);

// A page for each, in a profile of its own: no answer to a preflight is remembered from before.
async function carriedOut(order, asked) {
  const page = await browser.newPage();
  page.on("request", (request) => asked.push(`${request.method()} ${request.url()}`));
  try {
    await page.goto(order.site);
    return { ...(await page.evaluate((order) => window.carryOut(order), order)), asked };
  } finally {
    page.close().catch(() => {}); // a page that hangs is not waited for
  }
}

async function tooLong(asked) {
  await setTimeout(LONGEST_MS, undefined, { ref: false });
  throw new Error(`not done after ${LONGEST_MS} ms; asked: ${asked.join(", ")}`);
}

for await (const line of createInterface({ input: process.stdin })) {
  const asked = [];
  const report = Promise.race([carriedOut(JSON.parse(line), asked), tooLong(asked)]);
  console.log(JSON.stringify(await report.catch(({ message }) => ({ broke: message }))));
}
await browser.close();
