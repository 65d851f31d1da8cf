// Prints fal's client as one script for a page: its files and those they need, each as installed.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const numbers = new Map();
const files = [];

function add(path) {
  if (numbers.has(path)) return numbers.get(path);
  const number = numbers.size;
  numbers.set(path, number);
  const source = readFileSync(path, "utf8");
  const { resolve } = createRequire(path);
  const needed = source.matchAll(/\brequire\("([^"]+)"\)/g);
  const found = Object.fromEntries([...needed].map(([, name]) => [name, add(resolve(name))]));
  const body = path.endsWith(".json") ? `module.exports = ${source}` : source;
  files.push(`${number}: [${JSON.stringify(found)}, function (module, exports, require) {${body}\n}]`);
  return number;
}

const entry = add(createRequire(import.meta.url).resolve("@fal-ai/client"));
console.log(`globalThis.falClient = (() => {
const files = {
${files.join(",\n")}
};
const loaded = {};
function load(number) {
  if (!(number in loaded)) {
    const module = (loaded[number] = { exports: {} });
    const [found, body] = files[number];
    body.call(module.exports, module, module.exports, (name) => load(found[name]));
  }
  return loaded[number].exports;
}
return load(${entry});
})();`);
