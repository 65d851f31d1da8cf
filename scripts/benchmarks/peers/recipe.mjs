// The recipe as a Lambda handler: generate, fetch, put, sign a link.
import { GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";
import { fal } from "@fal-ai/client";
import { randomUUID } from "node:crypto";

fal.config({ credentials: process.env.FAL_KEY });
const s3 = new S3Client({});
const bucket = process.env.BUCKET;

export async function main(event) {
  let body;
  try {
    body = JSON.parse(event.body);
  } catch (error) {
    return answer(400, { error: "invalid_json", message: error.message });
  }
  const { prompt, model = "fal-ai/flux/schnell", image_size = "landscape_16_9", ...more } = body;
  if (!prompt || typeof prompt !== "string") {
    return answer(400, { error: "missing_prompt" });
  }

  let images;
  try {
    const result = await fal.subscribe(model, { input: { prompt, image_size, ...more } });
    images = result.data.images ?? [];
  } catch (error) {
    return answer(502, { error: "fal_failed", message: error.message });
  }
  if (images.length === 0) {
    return answer(502, { error: "no_image_returned" });
  }

  const links = await Promise.all(images.map((image) => keep(image)));
  return answer(200, { ...links[0], images: links, model, prompt });
}

async function keep(image) {
  const response = await fetch(image.url);
  if (!response.ok) {
    throw new Error(`HTTP ${response.status} for the picture`);
  }
  const picture = Buffer.from(await response.arrayBuffer());
  const day = new Date().toISOString().slice(0, 10);
  const Key = `ai-images/${day}/${randomUUID()}.${image.url.split(".").pop()}`;
  await s3.send(
    new PutObjectCommand({ Bucket: bucket, Key, Body: picture, ContentType: image.content_type }),
  );
  const link = await getSignedUrl(s3, new GetObjectCommand({ Bucket: bucket, Key }), {
    expiresIn: 3600,
  });
  return { fileID: `s3://${bucket}/${Key}`, tempFileURL: link };
}

function answer(statusCode, body) {
  return {
    statusCode,
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
}
