// The calls of fal's page about fal-ai/flux-pro, which still names the deprecated client.
import * as fal from "@fal-ai/serverless-client";

export async function submit(prompt) {
  const result = await fal.subscribe("fal-ai/flux-pro", {
    input: {
      prompt,
    },
    logs: true,
    onQueueUpdate: (update) => {
      if (update.status === "IN_PROGRESS") {
        update.logs.map((log) => log.message).forEach(console.log);
      }
    },
  });

  return result;
}

export async function submitWithKey(credentials, prompt) {
  fal.config({
    credentials,
  });

  return submit(prompt);
}

export async function upload() {
  const file = new File(["Hello, World!"], "hello.txt", { type: "text/plain" });
  const url = await fal.storage.upload(file);

  return url;
}

export async function useUpload(url) {
  const result = await fal.subscribe("fal-ai/flux-pro", { image_url: url });

  return result;
}

export async function run(input) {
  return fal.subscribe("fal-ai/flux-pro", { input });
}
