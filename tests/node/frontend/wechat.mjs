// The mini program of docs/frontend.md, with the least of WeChat that it needs.
import { createRequire, Module } from "node:module";
import { serve } from "./site.mjs";

// `clouds` answers calls of cloud functions in place of CloudBase: there the endpoint is one.
export async function callFunction(folder, clouds, openid, prompt) {
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
  globalThis.wx = {
    cloud: {
      callFunction: async ({ name, data }) => ({
        result: await functions[name].main({ ...data, userInfo: { openId: openid } }),
      }),
    },
  };
  const { paint } = required("./miniprogram/pictures.js");
  const refused = await wx.cloud.callFunction({ name: "pictures", data: { route: "GET /models" } });
  const job = await paint(prompt).catch((error) => ({ message: error.message }));
  return { asked, refused: refused.result, job };
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
