// Loaded before a peer: what it asks of a host of fal goes to the emulator, and nowhere else.
const emulator = process.env.FAL_IMAGE_EMULATOR_URL;
const reach = globalThis.fetch;

globalThis.fetch = (target, options) => {
  const url = String(target);
  const host = url.startsWith("https://") ? new URL(url).host : "";
  const isFal = host === "fal.run" || /\.fal\.(run|ai|media)$/.test(host);
  return reach(isFal ? url.replace("https://", `${emulator}/`) : target, options);
};
