// The calls of fal's guide to its JavaScript client; each function ends with what a reader has then.
import { fal } from "@fal-ai/client";
import * as old from "@fal-ai/serverless-client";

const input = {
  prompt: "a cat",
  seed: 6252023,
  image_size: "landscape_4_3",
  num_images: 4,
};

export async function subscribe() {
  const result = await fal.subscribe("fal-ai/flux/dev", {
    input,
    logs: true,
    onQueueUpdate: (update) => {
      if (update.status === "IN_PROGRESS") {
        update.logs.map((log) => log.message).forEach(console.log);
      }
    },
  });

  return result;
}

export async function submit() {
  const { request_id } = await fal.queue.submit("fal-ai/flux/dev", {
    input,
    webhookUrl: "https://optional.webhook.url/for/results",
  });

  return request_id;
}

export async function status(requestId) {
  const status = await fal.queue.status("fal-ai/flux/dev", {
    requestId,
    logs: true,
  });

  return status;
}

export async function result(requestId) {
  const result = await fal.queue.result("fal-ai/flux/dev", {
    requestId,
  });

  return result;
}

export async function upload() {
  const file = new File(["Hello, World!"], "hello.txt", { type: "text/plain" });
  const url = await fal.storage.upload(file);

  return url;
}

export async function stream() {
  const stream = await fal.stream("fal-ai/flux/dev", {
    input,
  });

  const events = [];
  for await (const event of stream) {
    events.push(event);
  }

  const result = await stream.done();

  return { events, result };
}

export async function realtime(proxyUrl) {
  fal.config({ proxyUrl });
  let connection;
  const result = await new Promise((resolve) => {
    connection = fal.realtime.connect("fal-ai/flux/dev", {
      onResult: (result) => {
        resolve(result);
      },
      onError: (error) => {
        console.error(error);
      },
    });

    connection.send(input);
  });
  connection.close();
  return result;
}

export async function run() {
  const result = await fal.run("fal-ai/flux/dev", {
    input,
  });

  return result;
}

export async function migrate(endpointId, input) {
  const before = await old.subscribe(endpointId, { input });
  const { data, requestId } = await fal.subscribe(endpointId, { input });

  return { before, data, requestId };
}

export async function migrateAsPrinted(endpointId, input) {
  const promise = fal.subscribe(endpointId, { input });
  const { data, requestId } = promise;
  await promise;

  return { data: data ?? null, requestId: requestId ?? null };
}
