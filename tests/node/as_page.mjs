// Loaded before a program (node --import): it runs as a script of a page does, which has no key and
// whose own site is SITE. What it would connect to fal arrives at EMULATOR; any other address is
// refused.
const { SITE: site, EMULATOR: emulator } = process.env;
const allowed = [`${site}/`, `${emulator}/`];
const realFetch = globalThis.fetch;
const RealSocket = globalThis.WebSocket;

delete process.env.FAL_KEY;
globalThis.document = {};
globalThis.window = { document };

globalThis.fetch = (address, options) => {
  const { href } = new URL(address, site);
  if (!allowed.some((start) => href.startsWith(start))) throw new Error(`a test may not call ${href}`);
  return realFetch(href, options);
};

if (RealSocket) {
  globalThis.WebSocket = class extends RealSocket {
    constructor(address) {
      super(address.replace("wss://", `${emulator.replace("http", "ws")}/`));
    }
  };
}
