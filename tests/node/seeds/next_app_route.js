// src/app/api/fal/proxy/route.js of fal's guide, as it is printed.
import { route } from "@fal-ai/server-proxy/nextjs";

export const { GET, POST } = route;
