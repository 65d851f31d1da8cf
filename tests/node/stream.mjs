import { fal, input, model, report } from "./emulated.mjs";

const stream = await fal.stream(model, { input });
const events = [];
for await (const event of stream) events.push(event.images[0].url);
report({ events, done: await stream.done() });
