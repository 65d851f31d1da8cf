// A site made of the files of a folder, and a visitor of it, in one process. What would be between
// the two (Next.js, a browser) is here the least that does the same.
import { once } from "node:events";
import { createServer } from "node:http";

const realFetch = globalThis.fetch;

// Gives what a page calls fetch. `folder` holds the files, `router` is "app" or "page".
async function open(folder, router, cookie) {
  const fetches = router === "app" ? await appRouter(folder) : await pageRouter(folder);
  return (address, { headers, ...options }) =>
    fetches(address, { ...options, headers: { ...headers, cookie } });
}

async function appRouter(folder) {
  const route = await import(`${folder}/app/api/fal/proxy/route.js`);
  return (address, options) => {
    const request = new Request(new URL(address, "http://site"), options);
    return route[request.method]?.(request) ?? new Response(null, { status: 405 });
  };
}

async function pageRouter(folder) {
  const origin = await serve(folder);
  return (address, options) => realFetch(new URL(address, origin), options);
}

// The page router reads the body, unless it is asked not to.
export async function serve(folder) {
  const { default: handler, config } = await import(`${folder}/pages/api/fal/proxy.js`);
  return listening(async (req, res) => {
    if (config?.api?.bodyParser !== false) req.body = JSON.parse((await text(req)) || "{}");
    await handler(req, res).catch(() => res.destroy());
  });
}

// A server that does not keep the process from its end; gives its origin.
async function listening(answer) {
  const server = createServer(answer).listen(0, "127.0.0.1");
  server.unref();
  server.maxRequestsPerSocket = 1;
  await once(server, "listening");
  return `http://127.0.0.1:${server.address().port}`;
}

// From now on this process is a page: fal's client believes that, and what has no origin is asked
// of the site.
export async function visit(folder, router, cookie) {
  const ask = await open(folder, router, cookie);
  globalThis.window = { document: {} };
  globalThis.fetch = (address, options) =>
    (String(address).startsWith("/") ? ask : realFetch)(address, options);
}

export async function paint(folder, router, cookie) {
  await visit(folder, router, cookie);
  const { paint } = await import(`${folder}/lib/fal.js`);
  const seen = [];
  const painted = await paint("a calico cat at sunset", ({ status }) => seen.push(status));
  return { ...painted, seen };
}

export async function useMore(folder, router, cookie) {
  await visit(folder, router, cookie);
  await import(`${folder}/lib/fal.js`);
  const { fal } = await import("@fal-ai/client");
  const model = "fal-ai/flux/dev";
  const input = { prompt: "a calico cat" };
  const { request_id: requestId } = await fal.queue.submit(model, { input });
  await fal.queue.result(model, { requestId }); // fal is done now, and too late cancelled is 400
  const cancelled = await fal.queue.cancel(model, { requestId }).catch((error) => error.body);
  const refused = await fal
    .subscribe(model, { input: { ...input, num_images: 9 } })
    .catch(({ name, status }) => ({ name, status }));
  const uploaded = await fal.storage.upload(new Blob(["small file"], { type: "text/plain" }));
  const streamed = await fal.stream(model, { input });
  return { cancelled, refused, uploaded, done: await streamed.done() };
}

export async function answered(folder, router, cookie, methods) {
  const ask = await open(folder, router, cookie);
  const answers = methods.map((method) => ask("/api/fal/proxy", { method }));
  return (await Promise.all(answers)).map((answer) => answer.status);
}

// The owner's own logic: what it is told of three submits, and what they are answered.
export async function limited(folder, cookie, most) {
  const tracked = [];
  const statuses = [];
  globalThis.analytics = { track: (event, facts) => tracked.push({ event, ...facts }) };
  globalThis.rateLimiter = { shouldLimit: () => tracked.length > most };
  const ask = await open(folder, "app", cookie);
  const headers = { ...post.headers, "x-fal-target-url": "https://queue.fal.run/fal-ai/flux/schnell" };
  while (statuses.length < 3) {
    statuses.push((await ask("/api/fal/proxy", { ...post, headers })).status);
  }
  return { tracked, statuses };
}

// An endpoint that says the second half of its answer only when it is told to.
export async function handOn(folder, router, cookie) {
  const seen = {};
  let goOn;
  const toldTo = new Promise((resolve) => (goOn = resolve));
  process.env.FAL_IMAGE_URL = await listening(async (req, res) => {
    Object.assign(seen, { url: req.url, headers: req.headers, body: await text(req) });
    res.writeHead(203, { "content-type": "text/event-stream", "x-fal-request-id": "r-1" });
    res.write("data: 1\n\n");
    await toldTo;
    res.end("data: 2\n\n");
  });
  const ask = await open(folder, router, cookie);
  const answer = await ask("/api/fal/proxy", post);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  const { value: first } = await reader.read();
  goOn();
  const { value: second } = await reader.read();
  return { seen, status: answer.status, headers: Object.fromEntries(answer.headers), first, second };
}

export async function leave(folder, router, cookie) {
  let left;
  const hungUp = new Promise((resolve) => (left = resolve));
  process.env.FAL_IMAGE_URL = await listening((req, res) => {
    res.on("close", () => left(true));
    res.write("data: 1\n\n");
  });
  const ask = await open(folder, router, cookie);
  const reader = (await ask("/api/fal/proxy", post)).body.getReader();
  await reader.read();
  await reader.cancel();
  return hungUp;
}

const post = {
  method: "POST",
  headers: {
    accept: "text/event-stream",
    "content-type": "application/json",
    "x-fal-target-url": "https://fal.run/fal-ai/flux/dev/stream",
    authorization: "Bearer of the site",
  },
  body: '{"prompt": "a cat"}',
};

async function text(stream) {
  let whole = "";
  for await (const chunk of stream.setEncoding("utf8")) whole += chunk;
  return whole;
}

export async function onTheServer(folder) {
  const { fal } = await import(`${folder}/lib/fal-server.js`);
  const { data } = await fal.subscribe("fal-ai/flux/schnell", { input: { prompt: "a cat" } });
  return data;
}

export async function vite(folder) {
  return (await import(`${folder}/vite.config.js`)).default;
}

export async function streamed(folder, proxyUrl, headers, input) {
  const { stream } = await import(`${folder}/stream.js`);
  const outputs = [];
  for await (const output of stream(proxyUrl, headers, "fal-ai/flux/dev", input)) outputs.push(output);
  return outputs;
}

export async function followed(folder, url, headers) {
  const { follow } = await import(`${folder}/events.js`);
  const names = [];
  const done = await follow(url, headers, (name) => names.push(name));
  return { names, done };
}

// `chunks` are what the network makes of a stream; gives its events.
export async function parsed(folder, chunks) {
  const { events } = await import(`${folder}/events.js`);
  const body = new ReadableStream({
    start(controller) {
      chunks.forEach((chunk) => controller.enqueue(Uint8Array.from(chunk)));
      controller.close();
    },
  });
  const found = [];
  for await (const event of events(new Response(body))) found.push(event);
  return found;
}
