// The functions of the skill "fal.ai Image Generation" as one pastes them, without their types.
import fs from "node:fs";
import { fal } from "@fal-ai/client";

fal.config({
  credentials: process.env.FAL_KEY,
});

export async function generateFluxSchnell(prompt, options) {
  const result = await fal.subscribe("fal-ai/flux/schnell", {
    input: {
      prompt,
      image_size: options?.imageSize ?? "landscape_4_3",
      num_images: options?.numImages ?? 1,
      enable_safety_checker: options?.enableSafetyChecker ?? true,
      seed: options?.seed,
    },
  });

  return result.data;
}

export async function generateFluxDev(prompt, numSteps = 28) {
  const result = await fal.subscribe("fal-ai/flux/dev", {
    input: {
      prompt,
      image_size: "landscape_4_3",
      num_inference_steps: numSteps,
      guidance_scale: 3.5,
      num_images: 1,
      enable_safety_checker: true,
    },
  });

  return result.data;
}

export async function generateFluxPro(prompt, options) {
  const result = await fal.subscribe("fal-ai/flux-pro/v1.1-ultra", {
    input: {
      prompt,
      image_size: options?.imageSize,
      safety_tolerance: options?.safetyTolerance ?? "2",
      seed: options?.seed,
      raw: false,
    },
  });

  return result.data;
}

export async function submitToQueue(prompt) {
  const { request_id } = await fal.queue.submit("fal-ai/flux/schnell", {
    input: {
      prompt,
      image_size: "square_hd",
      num_images: 1,
    },
    webhookUrl: "https://your-server.com/webhooks/fal",
  });

  return request_id;
}

export async function checkQueueStatus(requestId) {
  const status = await fal.queue.status("fal-ai/flux/schnell", {
    requestId,
    logs: true,
  });

  return {
    status: status.status,
    queuePosition: status.queue_position,
  };
}

export async function getQueueResult(requestId) {
  const result = await fal.queue.result("fal-ai/flux/schnell", {
    requestId,
  });

  return result.data;
}

async function generateWithProgress(prompt, onProgress) {
  const result = await fal.subscribe("fal-ai/flux/dev", {
    input: {
      prompt,
      image_size: "square_hd",
      num_inference_steps: 28,
    },
    pollInterval: 1000,
    logs: true,
    onQueueUpdate: (update) => {
      if (onProgress) {
        onProgress({
          status: update.status,
          logs: update.logs?.map((l) => l.message),
        });
      }
    },
  });

  return result.data;
}

export async function everyProgress(prompt) {
  const updates = [];
  const result = await generateWithProgress(prompt, (update) => updates.push(update));
  return { updates, result };
}

export async function fluxImg2Img(imageUrl, prompt, strength = 0.75) {
  const result = await fal.subscribe("fal-ai/flux/dev/image-to-image", {
    input: {
      image_url: imageUrl,
      prompt,
      strength,
      num_inference_steps: 28,
      image_size: "square_hd",
    },
  });

  return result.data;
}

export async function uploadAndGenerate(filePath, prompt) {
  const uploadedUrl = await fal.storage.upload(
    new File([await fs.promises.readFile(filePath)], "input.png", {
      type: "image/png",
    }),
  );

  return fluxImg2Img(uploadedUrl, prompt);
}

// The handler as it is printed; without Express, which only brings `req` and `res`.
async function webhook(req, res) {
  const { request_id, status, payload } = req.body;

  if (status === "OK") {
    const images = payload.images;
    console.log(`Request ${request_id} completed with ${images.length} images`);

    // Download and store images
    for (const image of images) {
      const response = await fetch(image.url);
      const buffer = Buffer.from(await response.arrayBuffer());
      await fs.promises.writeFile(`output-${request_id}.png`, buffer);
    }
  } else {
    console.error(`Request ${request_id} failed:`, payload);
  }

  res.sendStatus(200);
}

export async function webhookIn(folder, body) {
  process.chdir(folder);
  const statuses = [];
  await webhook({ body }, { sendStatus: (status) => statuses.push(status) });
  return statuses;
}

export function useProxy() {
  fal.config({
    proxyUrl: "/api/fal/proxy",
  });
}

export async function generateInPage(prompt, options) {
  useProxy();
  return generateFluxSchnell(prompt, options);
}

function setupRealtimeGeneration(onResult) {
  const connection = fal.realtime.connect("fal-ai/flux/schnell", {
    onResult: (result) => {
      const images = result.images;
      if (images.length > 0) {
        onResult(images[0].url);
      }
    },
    onError: (error) => {
      console.error("Realtime error:", error);
    },
  });

  return {
    send: (prompt) => {
      connection.send({
        prompt,
        image_size: "square",
        num_images: 1,
        sync_mode: true,
      });
    },
    close: () => connection.close(),
  };
}

// Its use as it is printed, in a page with nothing but a preview; it ends with the first picture.
export async function preview() {
  useProxy();
  const attributes = new Promise((resolve) => {
    document.getElementById = (id) => ({
      setAttribute: (name, value) => resolve({ id, [name]: value }),
    });
  });

  const rt = setupRealtimeGeneration((url) => {
    document.getElementById("preview").setAttribute("src", url);
  });

  rt.send("a cat wearing a top hat");

  const shown = await attributes;
  rt.close();
  return shown;
}
