// Realtime connections whose tokens and sockets come from the emulator; needs Node 22, or
// --experimental-websocket.
import { emulator, fal, input, model, report } from "./emulated.mjs";

const RealSocket = globalThis.WebSocket;
globalThis.WebSocket = class extends RealSocket {
  constructor(url) {
    super(url.replace("wss://", `${emulator.replace("http", "ws")}/`));
  }
};

const results = [];
const errors = [];
await new Promise((resolve) => {
  const connection = fal.realtime.connect(model, {
    throttleInterval: 0,
    maxBuffering: 4,
    onResult: (result) => {
      results.push(result);
      if (results.length === 1) connection.send({ ...input, seed: 8 });
      else connection.send({ ...input, num_images: 9 });
    },
    onError: (error) => {
      errors.push({ message: error.message, status: error.status, body: error.body });
      resolve();
    },
  });
  connection.send(input);
});

// A token that opens nothing is dropped; the next message asks for another one.
const asked = [];
const signedInAgain = await new Promise((resolve) => {
  const connection = fal.realtime.connect(model, {
    throttleInterval: 0,
    tokenProvider: async (app) => {
      asked.push(app);
      if (asked.length === 1) return "bad";
      const response = await fetch(`${emulator}/rest.fal.ai/tokens/realtime`, {
        method: "POST",
        headers: { authorization: "Key id:secret" },
        body: JSON.stringify({ allowed_apps: [app], duration: 60 }),
      });
      return (await response.json()).token;
    },
    onResult: (result) => {
      connection.close();
      resolve(result);
    },
    onError: () => {
      if (asked.length === 1) connection.send(input);
    },
  });
  connection.send(input);
});
report({ results, errors, asked, signedInAgain });
