// fal's own proxy on Express, as its documentation mounts it.
import * as falProxy from "@fal-ai/server-proxy/express";
import express from "express";

const app = express();
app.all(falProxy.route, express.json(), falProxy.handler);
const server = app.listen(0, "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
