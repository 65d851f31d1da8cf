// The mini program of docs/miniprogram.zh-CN.md, with the least of WeChat that it needs.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// `clouds` answers calls of cloud functions in place of CloudBase, `storage` what is sent to its hosts.
// `lost` are beginnings of routes: the answer to the next such call is lost after the function ran.
function wechat({ folder, clouds, storage, openid }, lost = []) {
  const kept = new Map();
  const required = createRequire(`${folder}/miniprogram/app.json`);
  const seen = { env: null, asked: [], states: [], busy: [] };
  const later = globalThis.setTimeout; // nobody here waits a second between two looks
  globalThis.setTimeout = (then, ms, ...rest) => later(then, ms === 1000 ? 20 : ms, ...rest);
  globalThis.wx = {
    cloud: {
      init: ({ env }) => (seen.env = env),
      callFunction: async ({ name, data }) => {
        seen.asked.push(data.route);
        const body = JSON.stringify({ name, data, openid });
        const answer = await fetch(clouds, { method: "POST", body });
        if (lost.length > 0 && data.route.startsWith(lost[0])) {
          throw { errCode: -1, errMsg: `cloud.callFunction:fail ${lost.shift()}` };
        }
        return { errMsg: "cloud.callFunction:ok", result: await answer.json() };
      },
      uploadFile: async ({ cloudPath, filePath }) => {
        seen.uploaded = filePath;
        return { fileID: `cloud://env.bucket/${cloudPath}` };
      },
      getTempFileURL: async ({ fileList: [fileID] }) => {
        const content = readFileSync(seen.uploaded).toString("base64");
        return { fileList: [{ fileID, tempFileURL: `data:image/png;base64,${content}` }] };
      },
    },
    getStorageSync: (key) => JSON.parse(kept.get(key) ?? '""'),
    setStorageSync: (key, value) => void kept.set(key, JSON.stringify(value)),
    removeStorageSync: (key) => void kept.delete(key),
    getFileSystemManager: () => ({
      readFileSync: (path) => new Uint8Array(readFileSync(path)).buffer,
    }),
    request({ url, method, header, data, success, fail }) {
      fetch(`${storage}/${url.replace("https://", "")}`, { method, headers: header, body: data })
        .then((answer) => success({ statusCode: answer.status }))
        .catch((error) => fail({ errMsg: `request:fail ${error.message}` }));
    },
  };
  return { required, seen };
}

// Opens the app and its page, types a prompt and does each of `acts`: "tap" presses the button and waits
// for what comes of it, "tap twice" presses it once more meanwhile, "reopen" opens the page anew.
export async function press(given, prompt, acts = ["tap"], lost = []) {
  const { required, seen } = wechat(given, [...lost]);
  globalThis.App = (app) => app.onLaunch();
  required("./app.js");
  let definition;
  globalThis.Page = (given) => (definition = given);
  const [{ pages }, path] = [required("./app.json"), "./pages/paint/paint.js"];
  required(path);
  const fields = Object.keys(definition.data);
  const handlers = Object.keys(definition).filter((name) => typeof definition[name] === "function");
  let page = await opened(definition, seen);
  page.onInput({ detail: { value: prompt } });
  for (const act of acts) {
    if (act === "reopen") page = await opened(definition, seen);
    else await Promise.all([page.onPaint(), act === "tap twice" && page.onPaint()]);
  }
  return { ...seen, pages, handlers, fields, data: page.data };
}

async function opened(definition, seen) {
  const page = { ...definition, data: { ...definition.data } };
  page.setData = (changes) => {
    Object.assign(page.data, changes);
    if ("state" in changes) seen.states.push(changes.state);
    if ("isBusy" in changes) seen.busy.push(changes.isBusy);
  };
  await page.onLoad();
  return page;
}

export async function call(given, route, body) {
  const { call } = wechat(given).required("./utils/pictures.js");
  return call(route, body).catch(({ message, error }) => ({ message, error }));
}

export async function links(given, fileIDs) {
  return wechat(given).required("./utils/pictures.js").links(fileIDs);
}

// Once more, if the answer to the first is `lost`.
export async function edit(given, filePath, prompt, lost = []) {
  const { edit } = wechat(given, [...lost]).required("./utils/edit.js");
  const made = () => edit(filePath, prompt);
  return lost.length === 0 ? made() : made().catch(made);
}

export async function upload(given, filePath) {
  return wechat(given).required("./utils/upload.js").upload(filePath, "image/png");
}
