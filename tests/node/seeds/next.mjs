// The page of fal's guide to Next.js.
import { fal } from "@fal-ai/client";

fal.config({
  proxyUrl: "/api/fal/proxy",
});

export async function generate(prompt) {
  const result = await fal.subscribe("fal-ai/flux/dev", {
    input: {
      prompt,
      image_size: "square_hd",
    },
    pollInterval: 5000,
    logs: true,
    onQueueUpdate(update) {
      console.log("queue update", update);
    },
  });

  return result;
}

export async function generateAsPrinted(prompt) {
  const result = await generate(prompt);
  try {
    const imageUrl = result.images[0].url;
    return { imageUrl };
  } catch (error) {
    return { error: error.name };
  }
}
