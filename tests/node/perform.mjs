// Carries out one of the calls with fal's client and reports it. The same in Node and in a page.
import * as calls from "./calls.mjs";

// `client` is the module; `order` names the call, what it is given and where things are.
export async function perform(client, proxyUrl, order) {
  const { call, given, credentials, retry, emulator, clock } = order;
  const sent = [];
  const realFetch = globalThis.fetch;
  globalThis.fetch = (address, options) => {
    sent.push(`${options.method} ${address}`);
    // What a client sends straight to fal, with a token of its own, is the emulator's here.
    const target = address.replace("https://fal.run/", `${emulator}/fal.run/`);
    return realFetch(target, options);
  };
  const RealSocket = globalThis.WebSocket;
  globalThis.WebSocket = class extends RealSocket {
    constructor(address) {
      sent.push(`GET ${address}`);
      super(address.replace("wss://", `${emulator.replace("http", "ws")}/`));
    }
  };
  const step = () => realFetch(clock, { method: "POST" });
  client.fal.config({ proxyUrl, credentials, retry });
  const outcome = await calls[call](client.fal, given, step).then(
    (returned) => ({ returned }),
    (error) => ({ threw: told(client, error) }),
  );
  return { outcome, sent };
}

function told({ ApiError, ValidationError }, error) {
  const { name, message, status, body, requestId, timeoutType, isUserTimeout, fieldErrors } = error;
  return {
    name,
    message,
    status,
    body,
    requestId,
    timeoutType,
    isUserTimeout,
    fieldErrors,
    isApiError: error instanceof ApiError,
    isValidation: error instanceof ValidationError,
  };
}
