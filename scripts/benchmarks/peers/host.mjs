// A function's runtime at its barest: an event a line on stdin, its answer a line on stdout.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const { main } = await import(pathToFileURL(process.argv[2]));
for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await main(JSON.parse(line), {}))}\n`);
}
