// Loaded before a program (node --import): what it sends to fal arrives at the emulator. The program
// and its client stay as they are, their settings included; any other address is refused, except the
// endpoint's own where a test names it.
const toFal = /^https:\/\/(?=(queue\.)?fal\.run\/|rest(\.alpha)?\.fal\.ai\/|[a-z0-9]+\.fal\.media\/)/;
const emulator = `${process.env.EMULATOR}/`;
const allowed = [emulator, ...(process.env.ENDPOINT ? [`${process.env.ENDPOINT}/`] : [])];
const realFetch = globalThis.fetch;

globalThis.fetch = (address, options) => {
  const url = String(address).replace(toFal, emulator);
  if (!allowed.some((start) => url.startsWith(start))) throw new Error(`a test may not call ${url}`);
  return realFetch(url, options);
};
