// The custom logic of fal's guide. As it is printed it reads headers as if they were an object, and a
// user and an answer that this router does not have; and it goes on after it has refused.
import { route } from "@fal-ai/server-proxy/nextjs";
import { userOf } from "../../../../lib/session.js";

export const POST = async (req) => {
  // Add some analytics
  analytics.track("fal.ai request", {
    targetUrl: req.headers.get("x-fal-target-url"),
    userId: await userOf(req),
  });

  // Apply some rate limit
  if (rateLimiter.shouldLimit(req)) {
    return Response.json({ error: "Too many requests" }, { status: 429 });
  }

  // If everything passed your custom logic, now execute the proxy handler
  return route.POST(req);
};

// For GET requests we will just use the built-in proxy handler
// But you could also add some custom logic here if you need
export const GET = route.GET;
