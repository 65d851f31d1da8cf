// What programs and pages do with fal's client. Knows nothing of where it runs and how it signs in.
//
// `step` lets fal go on by one step. Whoever takes it only after seeing what the last one brought
// proves that nothing was held back on the way.
const schnell = "fal-ai/flux/schnell";
const cat = { prompt: "a calico cat at sunset", seed: 7 };
const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAADElEQVR42mNgoA4AAABIAAEQRe/SAAAAAElFTkSuQmCC";

export function run(fal, { model = schnell, input = cat }) {
  return fal.run(model, { input });
}

export function subscribe(fal, { model = schnell, input = cat, ...options }) {
  return fal.subscribe(model, { input, pollInterval: 5, ...options });
}

export async function watch(fal, options, step) {
  const states = [];
  let logs = [];
  let last;
  const result = await subscribe(fal, {
    logs: true,
    ...options,
    onQueueUpdate: (update) => {
      logs = (update.logs ?? []).map((entry) => entry.message);
      const news = `${update.status} ${logs.length}`;
      if (news !== last) step();
      last = news;
      if (states.at(-1) !== update.status) states.push(update.status);
    },
  });
  return { states, logs, result };
}

export async function queue(fal, _, step) {
  const submitted = await fal.queue.submit(schnell, { input: cat });
  const requestId = submitted.request_id;
  const early = await fal.queue.result(schnell, { requestId }).catch((error) => error.status);
  const events = [];
  for await (const { status } of await fal.queue.streamStatus(schnell, { requestId, logs: true })) {
    events.push(status);
    await step();
  }
  const status = await fal.queue.status(schnell, { requestId, logs: true });
  const result = await fal.queue.result(schnell, { requestId });
  const late = await fal.queue.cancel(schnell, { requestId }).catch((error) => error.body);

  const { request_id: other } = await fal.queue.submit(schnell, { input: cat });
  await fal.queue.cancel(schnell, { requestId: other });
  const cancelled = await fal.queue.result(schnell, { requestId: other }).catch((error) => error.status);
  return { submitted, early, events, status, result, late, cancelled };
}

export function wish(fal) {
  return subscribe(fal, {
    priority: "low",
    hint: "warm",
    startTimeout: 30,
    storageSettings: { expiresIn: "1h" },
    headers: { "x-fal-tags": "team=web", "x-fal-no-retry": "1" },
  });
}

export function result(fal, { requestId }) {
  return fal.queue.result(schnell, { requestId });
}

export async function stream(fal, options, step) {
  const streamed = await fal.stream(schnell, { input: cat, ...options });
  const done = streamed.done();
  done.catch(() => {}); // a stream that fails before anybody asks how it ended would end the program
  const pictures = [];
  step(); // not waited for: a stream that fails before it is iterated would be iterated for ever
  for await (const output of streamed) {
    pictures.push(output.images?.[0].url);
    await step();
  }
  return { pictures, done: await done, requestId: streamed.requestId };
}

export function realtime(fal) {
  return new Promise((resolve, reject) => {
    const outputs = [];
    const connection = fal.realtime.connect(schnell, {
      throttleInterval: 0,
      onResult: (output) => {
        outputs.push(output);
        if (outputs.length === 1) return connection.send({ ...cat, seed: 8, sync_mode: true });
        connection.close();
        resolve(outputs);
      },
      onError: reject,
    });
    connection.send(cat);
  });
}

export function upload(fal, options) {
  return fal.storage.upload(new Blob(["small file"], { type: "text/plain" }), options);
}

export async function uploadInParts(fal) {
  // More than 90 MiB go up in parts; the last one is shorter.
  const part = new Uint8Array(10 * 1024 * 1024).fill(97);
  const type = "image/png";
  const file = new File([...new Array(9).fill(part), "the end"], "large.png", { type });
  return { url: await fal.storage.upload(file), bytes: file.size };
}

export function edit(fal) {
  const bytes = Uint8Array.from(atob(PNG), (letter) => letter.charCodeAt(0));
  const input = { ...cat, image_url: new Blob([bytes], { type: "image/png" }) };
  return subscribe(fal, { model: "fal-ai/flux/dev/image-to-image", input });
}

// In a page only.
export async function show(fal, options) {
  const { data } = await subscribe(fal, options);
  const image = new Image();
  image.src = data.images[0].url;
  await image.decode();
  return { src: image.src, width: image.naturalWidth, height: image.naturalHeight };
}
