"""The page that the emulator shows of itself: what it imitates, and what it does not."""

from __future__ import annotations

from .faults import describe

IMITATES = """\
This is the fal emulator of fal-image. It is not fal: no model runs, no money is spent.

It imitates, for the FLUX models of the catalog:
  queue.fal.run   submit, status, status stream, result, cancel; fal_webhook and
                  fal_max_queue_length; the start time-out headers; a result is gone an hour after
                  its job's end, or six minutes if it has 10,000 bytes or more
  fal.run         run, /stream for the models that have it, and the WebSocket of /realtime for
                  flux/schnell and flux/dev, to which guides to fal connect
  rest.fal.ai     tokens, CDN token, upload initiate and initiate-multipart, the webhook key set
  api.fal.ai      the price list, with the prices of the catalog and of fal-ai/flux-unheard-of
  v3.fal.media    pictures, uploads of fal-client and @fal-ai/client in one piece and in parts
Say which host you mean by the first part of the path (/queue.fal.run/fal-ai/flux/schnell), by the
Host header, or by x-fal-target-url. Any key in the form id:secret opens it; the key ids
"revoked" and "locked" are refused as fal refuses such keys.
Pictures are landscapes that follow from model, prompt and seed: same seed, same bytes.
image_url, image_urls and mask_url are fetched when the job begins to run: data URIs, files of
v3.fal.media from this emulator, and http(s) addresses with up to 4 redirects. A bad one is a 422
of fal's kind. The landscape shines through the input, the more the higher the strength, and only
where a mask is white; several inputs stand side by side. A size that is not asked for is that of
the first input.

It does not imitate:
  models           no prompt is understood; LoRAs are never fetched; aspect ratios, also those
                   that follow an input, come out at about one megapixel; no picture has more
                   than 4096x4096 pixels
  inputs           fal's own limits are not published; here each side has at least 8 pixels, all
                   at most 64 million, a file 64 MiB, a download 10 s; only the first bad input
                   is told; addresses on loopback and in private networks are fetched, which fal
                   cannot and a public server must not
  safety checker   nothing is flagged unless a fault says so
  money            billable units are whole megapixels or pictures as the catalog counts them;
                   cancelled and failed jobs are never billed, nor are masks
  accounts         all keys are one account: any key sees any job
  concurrency      jobs do not wait for each other; each waits and runs for the times given
  server retries   X-Fal-No-Retry, X-Fal-Retry-Config, hints, priority, tags and lifecycle
                   headers are accepted and ignored
  expiry           only results expire, and payload storage does not keep them longer; their
                   status can still be asked; files stay until the emulator stops or is reset;
                   only the newest 10,000 jobs are kept
  cancelling       a queued or running job ends at once unless a fault says so; 202 is the only
                   answer, fal may also say 200
  webhooks         loopback receivers are called, which fal refuses; webhooks of cancelled and
                   timed-out jobs are sent like those of failed ones, which fal does not document;
                   at most 11 attempts with a pause that doubles
  realtime         fal's own list of realtime models names none of the catalog; only MessagePack
                   is understood; a socket without messages is closed after 60 s, where at fal each
                   app has its own limit; nothing is compressed
  api.fal.ai       no model list, usage or anything else but prices
  the CDN          no ranges, no access rules; a multipart access_url names the emulator
Not documented by fal, and decided here: a GET on fal.run runs the model; a submit to the queue
takes bad input, and the job's result is the 422; an expired result is a 404 like an unknown one; a
socket whose token opens nothing is told so and closed with 1008; who leaves a socket is not billed
for the message that was worked on.
Wordings that fal does not publish are as third parties saw them, or made up: do not match on them.

Control (JSON):
  GET  /_emulator/ledger   every submit that was taken, and counts of all calls
  POST /_emulator/faults   {"kind": …, "on": …, "times": 1, further options}
  POST /_emulator/reset    forget jobs, files, counts and faults

Faults:
"""


def page() -> str:
    return IMITATES + describe() + "\n"
