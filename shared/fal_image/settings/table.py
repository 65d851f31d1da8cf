"""Every setting: its environment variable, how it is read, and what it means.

`docs/settings.md` is generated from this table. Refuses to know what becomes of the values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from msgspec import Struct

from ..spellings import (
    base_path,
    boolean,
    callers,
    emulator_url,
    fal_user_id,
    host_pattern,
    integer,
    listed,
    log_level,
    model_glob,
    model_id,
    one_of,
    origin,
    paired,
    queue_url,
    rate,
    signing_secrets,
    unknown_price,
    usd_micro,
    web_url,
)
from ..treatment import Level


class Setting(Struct, frozen=True):
    """One row of the table: an environment variable and what it means."""

    name: str
    field: str
    parse: Callable[[str], object]
    default: str
    meaning: str


TABLE: tuple[Setting, ...] = (
    Setting(
        "FAL_IMAGE_STORAGE_URL",
        "storage_url",
        str,
        "",
        "Where pictures are kept: `s3://bucket/prefix`, `cos://bucket-appid/prefix?region=…`, "
        "`cloudbase://envId/prefix` or `file:///directory`.",
    ),
    Setting(
        "FAL_IMAGE_DATABASE_URL",
        "database_url",
        str,
        "",
        "Where jobs are kept: `dynamodb://table`, `cloudbase://envId/collection` or "
        "`sqlite:///path/to/file`; without it requests are synchronous only.",
    ),
    Setting(
        "FAL_IMAGE_PUBLIC_URL",
        "public_url",
        web_url,
        "what the gateway says of itself",
        "The endpoint's own address, for links; never taken from the Host header.",
    ),
    Setting(
        "FAL_IMAGE_SECRET",
        "secrets",
        signing_secrets,
        "",
        "At least 32 characters; signs the ids of uploads, the links of `file://` storage and "
        "webhooks, so it must be set with a database. Two, separated by a comma, during a "
        "rotation: the first signs, both are accepted.",
    ),
    Setting(
        "FAL_IMAGE_API_KEYS",
        "api_keys",
        callers,
        "",
        "Who may call: `caller=sha256hex`, separated by commas; a caller may have several.",
    ),
    Setting(
        "FAL_IMAGE_ALLOW_ANONYMOUS",
        "allow_anonymous",
        boolean,
        "0",
        "1: who shows no credential is the caller `anonymous`. Everybody who finds the URL then "
        "spends your money.",
    ),
    Setting(
        "FAL_IMAGE_TRUST",
        "trust",
        listed(one_of("wechat", "cloudbase", "iam", "jwt")),
        "",
        "Whose word for who calls is taken: `wechat` (the mini program's user), `cloudbase` (its "
        "signed-in user), `iam` and `jwt` (what AWS's authorizers found). Empty: keys and tickets "
        "only.",
    ),
    Setting(
        "FAL_IMAGE_RATE_LIMIT",
        "rate_limit",
        rate,
        "60/m",
        "How many requests that may cost something each caller, and each ticket, may send: `60/m`, "
        "`5/s`, `1000/h`, or `off`. Without a database each instance counts by itself.",
    ),
    Setting(
        "FAL_IMAGE_MODELS",
        "models",
        listed(model_glob),
        "fal-ai/flux*,fal-ai/flux*/**",
        "Model ids that may be used; `*` stands for anything but `/`, `**` for anything.",
    ),
    Setting(
        "FAL_IMAGE_DEFAULT_MODEL",
        "default_model",
        model_id,
        "fal-ai/flux/schnell",
        "The model of a request that names none.",
    ),
    Setting(
        "FAL_IMAGE_MODEL_ALIASES",
        "model_aliases",
        paired("alias=model", model_id),
        "",
        "Names of your own for models: `fast=fal-ai/flux/schnell`.",
    ),
    Setting(
        "FAL_IMAGE_CORS_ORIGINS",
        "cors_origins",
        listed(origin),
        "",
        "Web origins whose pages may call, exactly as browsers send them; `null` is that of a page "
        "opened from a disk. Empty: no CORS headers, for a gateway that adds them itself.",
    ),
    Setting(
        "FAL_IMAGE_LINK_TTL_S",
        "link_ttl_s",
        integer(1, 3600),
        "3600",
        "Life of a link in seconds: the default and the most a request may ask for.",
    ),
    Setting(
        "FAL_IMAGE_LINK_BASE_URL",
        "link_base_url",
        web_url,
        "",
        "A public bucket or CDN in front of it: links are this address and the key, unsigned.",
    ),
    Setting(
        "FAL_IMAGE_MAX_IMAGE_BYTES",
        "max_image_bytes",
        integer(1, 2**30),
        "67108864",
        "The largest picture that is fetched from fal or uploaded for it, in bytes.",
    ),
    Setting(
        "FAL_IMAGE_MAX_WAIT_S",
        "max_wait_s",
        integer(1, 900),
        "55",
        "The longest a request waits for its picture, in seconds.",
    ),
    Setting(
        "FAL_IMAGE_FETCH_HOSTS",
        "fetch_hosts",
        listed(host_pattern),
        "",
        "Hosts besides `*.fal.media` that finished pictures may be fetched from.",
    ),
    Setting(
        "FAL_IMAGE_DAILY_BUDGET_USD",
        "daily_budget_usd_micro",
        usd_micro,
        "",
        "The most each caller may spend per UTC day, in dollars such as `5` or `0.50`. Unset: "
        "no limit.",
    ),
    Setting(
        "FAL_IMAGE_TOTAL_DAILY_BUDGET_USD",
        "total_daily_budget_usd_micro",
        usd_micro,
        "",
        "The most that all callers together may spend per UTC day. Unset: no limit.",
    ),
    Setting(
        "FAL_IMAGE_UNKNOWN_PRICE",
        "unknown_price_usd_micro",
        unknown_price,
        "refuse",
        "What a request whose price is not known does where there is a budget: `refuse`, `allow` "
        "(it counts nothing), or the dollars to put aside for it.",
    ),
    Setting(
        "FAL_IMAGE_MAX_IMAGES",
        "max_images",
        integer(1, 100),
        "4",
        "The most pictures one request may ask for.",
    ),
    Setting(
        "FAL_IMAGE_MAX_MEGAPIXELS",
        "max_megapixels",
        integer(1, 200),
        "4",
        "The most megapixels (1,048,576 pixels) that one picture may have, where its size is said.",
    ),
    Setting(
        "FAL_IMAGE_MAX_STEPS",
        "max_steps",
        integer(1, 1000),
        "50",
        "The most inference steps a request may ask for.",
    ),
    Setting(
        "FAL_IMAGE_MAX_PROMPT_CHARS",
        "max_prompt_chars",
        integer(1, 100_000),
        "4000",
        "The longest prompt, in characters.",
    ),
    Setting(
        "FAL_IMAGE_ALLOW_UNSAFE",
        "allow_unsafe",
        boolean,
        "0",
        "1: a request may switch fal's safety checker off or make it as tolerant as it gets.",
    ),
    Setting(
        "FAL_IMAGE_FLAGGED",
        "flagged",
        one_of("keep", "refuse"),
        "keep",
        "What becomes of pictures that fal's safety checker flagged: `refuse` gives no link.",
    ),
    Setting(
        "FAL_IMAGE_WEBHOOK_USER_ID",
        "webhook_user_id",
        fal_user_id,
        "",
        "The only fal user whose webhooks are believed, as `X-Fal-Webhook-User-Id` names it.",
    ),
    Setting(
        "FAL_IMAGE_WEBHOOK_HOSTS",
        "webhook_hosts",
        listed(host_pattern),
        "",
        "Hosts that a request's `webhookUrl` may name: exact ones, or `*.example.com` for all "
        "below. Empty: every `webhookUrl` is refused.",
    ),
    Setting(
        "FAL_IMAGE_PROXY_STORE_IMAGES",
        "proxy_store_images",
        boolean,
        "0",
        "1: pictures of results that pass through the proxy are copied into the bucket, and the "
        "answers link to them there.",
    ),
    Setting(
        "FAL_IMAGE_AI_LABEL",
        "ai_label",
        one_of(*get_args(Level)),
        "off",
        "What every stored picture says of being made by a machine: nothing, fields in the file, "
        "or these and a mark that one sees. Callers may ask for more, never for less.",
    ),
    Setting(
        "FAL_IMAGE_AI_PRODUCER",
        "ai_producer",
        str,
        "fal-image",
        "Who offers the service, as the AI label names them: a name, or a registration code.",
    ),
    Setting(
        "FAL_IMAGE_WATERMARK_FONT",
        "watermark_font",
        str,
        "",
        "A TrueType or OpenType file for watermark texts that Pillow's own font has no letters "
        "for, such as Chinese.",
    ),
    Setting(
        "FAL_IMAGE_QUEUE_URL",
        "queue_url",
        queue_url,
        "",
        "The SQS queue whose messages name jobs that have something to do. Unset: whoever learns "
        "of it does it.",
    ),
    Setting(
        "FAL_IMAGE_JOB_RETENTION_DAYS",
        "job_retention_days",
        integer(1, 3650),
        "30",
        "How long finished jobs are remembered, in days. Pictures stay.",
    ),
    Setting(
        "FAL_IMAGE_BASE_PATH",
        "base_path",
        base_path,
        "",
        "A path in front of every route, for example `/prod`.",
    ),
    Setting(
        "FAL_IMAGE_LOG_LEVEL", "log_level", log_level, "INFO", "DEBUG, INFO, WARNING or ERROR."
    ),
    Setting(
        "FAL_IMAGE_EMULATOR_URL",
        "emulator_url",
        emulator_url,
        "",
        "Sends every call for fal to the emulator on this machine; no money is spent.",
    ),
)
