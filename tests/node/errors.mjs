import { ApiError, ValidationError } from "@fal-ai/client";
import { fal, report } from "./emulated.mjs";

async function caught(call) {
  try {
    return await call();
  } catch (error) {
    const { name, status, body, requestId, fieldErrors } = error;
    const isApiError = error instanceof ApiError;
    return { name, status, body, requestId, fieldErrors, isApiError, isValidation: error instanceof ValidationError };
  }
}

const input = { prompt: "a cat", num_images: 9 };
report({
  run: await caught(() => fal.run("fal-ai/flux/dev", { input })),
  subscribe: await caught(() => fal.subscribe("fal-ai/flux/dev", { input, pollInterval: 10 })),
  unknown: await caught(() => fal.run("fal-ai/no-such-model", { input })),
});
