// Chromium without a window, which reaches nothing but this machine.
import { chromium } from "playwright-core";

const args = [
  "--disable-gpu",
  "--disable-quic",
  "--disable-sync",
  "--no-proxy-server",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
];

export function launch(executablePath) {
  return chromium.launch({ executablePath, args });
}
