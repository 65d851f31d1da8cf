import { fal, input, model, report } from "./emulated.mjs";

report(await fal.run(model, { input }));
