import * as client from "@fal-ai/client";
import { perform } from "./perform.mjs";

const order = JSON.parse(process.argv[2]);
console.log(JSON.stringify(await perform(client, { url: order.proxy, when: "always" }, order)));
