// Loaded into the CloudBase CLI before its own code: whatever it sends to a cloud goes to the fake
// on this machine, which is told whom it was meant for. Nothing else is changed.
"use strict";

const http = require("node:http");
const https = require("node:https");

https.request = function request(...args) {
  const callback = args.find((arg) => typeof arg === "function");
  const options = Object.assign({}, ...args.filter((arg) => arg !== callback).map(asOptions));
  const headers = { ...options.headers, "x-meant-for": options.hostname || options.host };
  const here = { host: "127.0.0.1", port: process.env.FAKE_CLOUD_PORT };
  return http.request({ method: options.method, path: options.path, ...here, headers }, callback);
};

function asOptions(arg) {
  if (typeof arg === "object" && !(arg instanceof URL)) return arg;
  const url = new URL(arg);
  return { hostname: url.hostname, path: url.pathname + url.search };
}
