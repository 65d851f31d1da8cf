// The mini program of docs/frontend.md, with the least of WeChat that it needs.
import { createRequire, Module } from "node:module";
import { serve } from "./site.mjs";

// `clouds` answers calls of cloud functions in place of CloudBase: there the endpoint is one. `lost` are
// beginnings of routes: the answer to the next such call is lost after the function ran, and then the
// same picture is asked for once more.
export async function callFunction(folder, clouds, openid, prompt, lost = []) {
  const required = createRequire(`${folder}/package.json`);
  const asked = [];
  const cloud = {
    DYNAMIC_CURRENT_ENV: Symbol("this environment"),
    init: () => {},
    getWXContext: () => ({ OPENID: openid }),
    callFunction: async ({ name, data }) => {
      asked.push(data.route);
      const body = JSON.stringify({ name, data });
      const answer = await fetch(clouds, { method: "POST", body });
      return { errMsg: "callFunction:ok", result: await answer.json() };
    },
  };
  const load = Module._load;
  Module._load = (name, ...rest) => (name === "wx-server-sdk" ? cloud : load(name, ...rest));
  const functions = { pictures: required("./cloudfunctions/pictures/index.js") };
  const kept = new Map();
  globalThis.wx = {
    getStorageSync: (key) => kept.get(key) ?? "",
    setStorageSync: (key, value) => void kept.set(key, value),
    removeStorageSync: (key) => void kept.delete(key),
    cloud: {
      callFunction: async ({ name, data }) => {
        const result = await functions[name].main({ ...data, userInfo: { openId: openid } });
        if (lost.length === 0 || !data.route.startsWith(lost[0])) return { result };
        throw { errCode: -1, errMsg: `cloud.callFunction:fail ${lost.shift()}` };
      },
    },
  };
  const later = globalThis.setTimeout; // nobody here waits a second between two looks
  globalThis.setTimeout = (then, ms, ...rest) => later(then, ms === 1000 ? 20 : ms, ...rest);
  const { paint } = required("./miniprogram/pictures.js");
  const refused = await functions.pictures.main({ route: "GET /models" });
  const painted = async () => paint(prompt).catch(({ message, errMsg }) => ({ message: message ?? errMsg }));
  const first = await painted();
  const job = first.message?.startsWith("cloud.") ? await painted() : first;
  return { asked, refused, job };
}

export async function request(folder, session, prompt) {
  const site = await serve(folder);
  globalThis.wx = {
    request({ url, method, header, data, success, fail }) {
      fetch(url, { method, headers: header, body: JSON.stringify(data) })
        .then(async (answer) => success({ statusCode: answer.status, data: await answer.json() }))
        .catch((error) => fail({ errMsg: `request:fail ${error.message}` }));
    },
  };
  const { paint } = createRequire(`${folder}/package.json`)("./miniprogram/proxy.js");
  return paint(site, session, prompt).catch(({ message, error }) => ({ message, error: error ?? null }));
}
