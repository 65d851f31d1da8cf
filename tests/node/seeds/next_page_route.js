// src/pages/api/fal/proxy.js of fal's guide, as it is printed.
export { handler as default } from "@fal-ai/server-proxy/nextjs";
