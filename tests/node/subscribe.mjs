import { fal, input, model, report } from "./emulated.mjs";

const seen = {};
for (const mode of ["polling", "streaming"]) {
  const states = [];
  let logs = [];
  const result = await fal.subscribe(model, {
    input,
    mode,
    pollInterval: 20,
    logs: true,
    onQueueUpdate: (update) => {
      states.push(update.status);
      logs = (update.logs ?? []).map((entry) => entry.message);
    },
  });
  seen[mode] = { states: [...new Set(states)], logs, result };
}
report(seen);
