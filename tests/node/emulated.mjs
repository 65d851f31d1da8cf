// fal's client, unmodified, with every call to a host of fal sent to the emulator instead.
import { createFalClient } from "@fal-ai/client";

export const emulator = process.argv[2];
export const model = "fal-ai/flux/schnell";
export const input = { prompt: "a calico cat at sunset", seed: 7 };

export const fal = createFalClient({
  credentials: "id:secret",
  requestMiddleware: async (request) => ({
    ...request,
    url: request.url.replace("https://", `${emulator}/`),
  }),
});

export function report(value) {
  console.log(JSON.stringify(value));
}
