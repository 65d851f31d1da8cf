import { fal, input, model, report } from "./emulated.mjs";

const submitted = await fal.queue.submit(model, { input, priority: "low", startTimeout: 30 });
const requestId = submitted.request_id;
const early = await fal.queue.result(model, { requestId }).catch((error) => error.body);
const events = [];
const stream = await fal.queue.streamStatus(model, { requestId, logs: true });
for await (const event of stream) events.push(event.status);
const status = await fal.queue.status(model, { requestId, logs: true });
const result = await fal.queue.result(model, { requestId });

const { request_id: other } = await fal.queue.submit(model, { input });
await fal.queue.cancel(model, { requestId: other });
const cancelled = await fal.queue.result(model, { requestId: other }).catch((error) => error.status);
const late = await fal.queue.cancel(model, { requestId }).catch((error) => error.body);
report({ submitted, early, events, status, result, cancelled, late });
