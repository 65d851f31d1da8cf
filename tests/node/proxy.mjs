// The form of proxyUrl that also acts outside of browsers: one URL, the real one in a header.
import { createFalClient } from "@fal-ai/client";
import { emulator, input, model, report } from "./emulated.mjs";

const fal = createFalClient({ credentials: "id:secret", proxyUrl: { url: emulator, when: "always" } });
const run = await fal.run(model, { input });
const subscribe = await fal.subscribe(model, { input, mode: "streaming" });
report({ run: run.data, subscribe: subscribe.data });
