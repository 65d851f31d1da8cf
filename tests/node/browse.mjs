// Somebody at a browser: a line of JSON orders one thing to do, a line reports it, until the input
// ends. Knows no page; what is done, and what should be seen then, stands in the Python tests.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { launch } from "./chromium.mjs";

const PATIENCE_MS = 8000;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await launch(process.argv[2]);
const visits = new Map(); // by number: a page in a profile of its own, and all that left it
let opened = 0;

/** A new profile; `clock` makes the page's time one that a test moves. */
async function open({ options, clock }) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  const asked = [];
  const said = [];
  context.on("request", (one) => asked.push({ method: one.method(), url: one.url(), headers: one.headers(), body: one.postData() }));
  page.on("console", (one) => one.type() === "error" && said.push(one.text()));
  page.on("pageerror", (error) => said.push(error.message));
  if (clock) await page.clock.install();
  opened += 1;
  visits.set(opened, { context, page, asked, said });
  return opened;
}

/** A locator or the page itself, by the chain of calls that leads there. */
const found = (page, chain) => chain.reduce((at, [method, ...given]) => at[method](...given), page);

const DEEDS = {
  open,
  close: async ({ visit }) => {
    await visits.get(visit).context.close();
    visits.delete(visit);
  },
  call: async ({ visit, chain, method, given }) => found(visits.get(visit).page, chain)[method](...given),
  clock: async ({ visit, method, given }) => visits.get(visit).page.clock[method](...given),
  // Drops the answers to some requests, after the server has seen them.
  lose: async ({ visit, url, times }) => {
    let left = times;
    await visits.get(visit).page.route(url, async (route) => {
      if (left-- <= 0) return route.continue();
      await route.fetch();
      return route.abort();
    });
  },
  download: async ({ visit, chain }) => {
    const { page } = visits.get(visit);
    const [saved] = await Promise.all([page.waitForEvent("download"), found(page, chain).click()]);
    return [saved.suggestedFilename(), readFileSync(await saved.path()).toString("base64")];
  },
  asked: async ({ visit }) => visits.get(visit).asked,
  said: async ({ visit }) => visits.get(visit).said,
  axe: async ({ visit }) => {
    const { page } = visits.get(visit);
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run());
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join(" · ")}`);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { deed, ...order } = JSON.parse(line);
  const report = DEEDS[deed](order).then((answer) => ({ answer: answer ?? null }));
  console.log(JSON.stringify(await report.catch(({ message }) => ({ broke: message }))));
}
await browser.close();
