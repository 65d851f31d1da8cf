// The AI SDK's provider for fal, unmodified: what a user of `ai` calls, and the provider's own model.
import { createHash } from "node:crypto";
import { createFal } from "@ai-sdk/fal";
import { APICallError } from "@ai-sdk/provider";
import { generateImage, RetryError } from "ai";

// The pictures of one call, what became of it, and the addresses it asked, each with its key or "".
export function generate({ baseURL, apiKey, model, ...options }) {
  const { asked, fal } = provider(baseURL, apiKey);
  return outcome(asked, async () => {
    const { images, responses, providerMetadata } = await generateImage({ model: fal.image(model), ...options });
    return { images: images.map(described), headers: responses[0].headers, metadata: providerMetadata.fal };
  });
}

// The same without `ai` around it, which keeps all that fal's answer said.
export function generateByModel({ baseURL, apiKey, model, ...options }) {
  const { asked, fal } = provider(baseURL, apiKey);
  return outcome(asked, async () => {
    const { images, response, providerMetadata } = await fal.image(model).doGenerate({ n: 1, providerOptions: {}, ...options });
    return { images: images.map((uint8Array) => described({ uint8Array })), headers: response.headers, metadata: providerMetadata.fal };
  });
}

function provider(baseURL, apiKey) {
  const asked = [];
  const fetch = (url, options) => {
    asked.push({ url: String(url), key: new Headers(options.headers).get("authorization") ?? "" });
    return globalThis.fetch(url, options);
  };
  return { asked, fal: createFal({ baseURL, apiKey, fetch }) };
}

async function outcome(asked, call) {
  try {
    return { ...(await call()), asked };
  } catch (error) {
    const { lastError = error } = RetryError.isInstance(error) ? error : {};
    if (!APICallError.isInstance(lastError)) throw lastError;
    const { message, statusCode, isRetryable } = lastError;
    return { error: { message, statusCode, isRetryable }, asked };
  }
}

function described({ uint8Array, mediaType }) {
  return { mediaType, sha256: createHash("sha256").update(uint8Array).digest("hex") };
}
