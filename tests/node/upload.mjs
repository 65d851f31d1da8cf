import { fal, report } from "./emulated.mjs";

const url = await fal.storage.upload(new Blob(["small file"], { type: "text/plain" }));
// More than 90 MiB go up in parts; the last one is shorter.
const parts = new Array(9).fill(Buffer.alloc(10 * 1024 * 1024, "a"));
const large = new Blob([...parts, "the end"], { type: "image/png" });
const largeUrl = await fal.storage.upload(new File([large], "large.png", { type: "image/png" }));
const png = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAADElEQVR42mNgoA4AAABIAAEQRe/SAAAAAElFTkSuQmCC",
  "base64",
);
const automatic = await fal.run("fal-ai/flux/dev/image-to-image", {
  input: { prompt: "a cat", image_url: new Blob([png], { type: "image/png" }) },
});
report({ url, largeUrl, largeBytes: large.size, automatic: automatic.data.images.length });
