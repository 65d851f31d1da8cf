"""The owner's settings: one frozen object read once from the environment.

A value that cannot be used does not raise here: it is kept in `Settings.problems`, so that an
endpoint can say what is wrong instead of dying at import. Facts of one invocation (credentials,
time left, caller) are not settings. `docs/settings.md` is generated from `TABLE`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PREFIX = "FAL_IMAGE_"
FAL_HOSTS = frozenset({"fal.run", "queue.fal.run", "rest.fal.ai", "api.fal.ai"})


@dataclass(frozen=True)
class Settings:
    """Everything the owner can say. Secrets never appear in its repr."""

    fal_key: str | None = field(default=None, repr=False)
    storage_url: str | None = None
    database_url: str | None = None
    public_url: str | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    api_keys: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    allow_anonymous: bool = False
    models: tuple[str, ...] = ("fal-ai/flux*", "fal-ai/flux*/**")
    default_model: str = "fal-ai/flux/schnell"
    model_aliases: tuple[tuple[str, str], ...] = ()
    cors_origins: tuple[str, ...] = ()
    link_ttl_s: int = 3600
    link_base_url: str | None = None
    max_image_bytes: int = 64 * 1024 * 1024
    max_wait_s: int = 55
    fetch_hosts: tuple[str, ...] = ()
    daily_budget_usd_micro: int | None = None
    webhook_user_id: str | None = None
    webhook_hosts: tuple[str, ...] = ()
    proxy_store_images: bool = False
    queue_url: str | None = None
    job_retention_days: int = 30
    base_path: str = ""
    log_level: str = "INFO"
    emulator_url: str | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """One row of the table: an environment variable and what it means."""

    name: str
    field: str
    parse: Callable[[str], object]
    default: str
    meaning: str


def load(environ: Mapping[str, str]) -> Settings:
    """Read every setting; blank means unset. Never raises: see `Settings.problems`."""
    values: dict[str, object] = {}
    problems: list[str] = []
    for row in TABLE:
        text = environ.get(row.name, "").strip()
        if not text:
            continue
        try:
            values[row.field] = row.parse(text)
        except ValueError as error:
            problems.append(f"{row.name}: {error}")
    problems += _unknown(environ)
    try:
        values["fal_key"] = _fal_key(environ)
    except ValueError as error:
        problems.append(str(error))
    return Settings(**values, problems=tuple(problems))  # type: ignore[arg-type]


def _unknown(environ: Mapping[str, str]) -> list[str]:
    known = {row.name for row in TABLE} | {f"{PREFIX}URL", f"{PREFIX}TOKEN"}
    return [
        f"{name}: there is no such setting; see docs/settings.md"
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in known
    ]


def _fal_key(environ: Mapping[str, str]) -> str | None:
    key = environ.get("FAL_KEY", "").strip()
    key_id = environ.get("FAL_KEY_ID", "").strip()
    secret = environ.get("FAL_KEY_SECRET", "").strip()
    if not key and key_id and secret:
        key = f"{key_id}:{secret}"
    if not key:
        return None
    if not re.fullmatch(r"[!-9;-~]+:[!-~]+", key):
        raise ValueError("FAL_KEY: not of the form key_id:key_secret, as fal shows it once")
    return key


def _boolean(text: str) -> bool:
    if text not in {"0", "1"}:
        raise ValueError("must be 0 or 1")
    return text == "1"


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def _usd_micro(text: str) -> int:
    """Dollars as whole micro-USD, without a float on the way."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text):
        raise ValueError("must be dollars such as 5 or 0.50, below a million, 6 decimals at most")
    whole, _, decimals = text.partition(".")
    return int(whole) * 1_000_000 + int(decimals.ljust(6, "0"))


def _list(item: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        return tuple(item(part.strip()) for part in text.split(",") if part.strip())

    return parse


def _pairs(what: str, value: Callable[[str], str]) -> Callable[[str], tuple[tuple[str, str], ...]]:
    def parse(text: str) -> tuple[tuple[str, str], ...]:
        pairs = []
        for part in text.split(","):
            name, separator, right = part.strip().partition("=")
            if not separator or not re.fullmatch(r"[A-Za-z0-9_.:@/-]{1,64}", name):
                raise ValueError(f"must be {what}, separated by commas")
            pairs.append((name, value(right)))
        return tuple(pairs)

    return parse


def _sha256_hex(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ValueError("keeps only the SHA-256 of a key: 64 hex digits after caller=")
    return text.lower()


def _model(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+", text) or ".." in text:
        raise ValueError("must be a model id such as fal-ai/flux/schnell")
    return text


def _glob(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.*/-]+", text):
        raise ValueError("must be model ids in which * stands for anything but / and ** for all")
    return text


def _secrets(text: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in text.split(","))
    if len(parts) > 2 or any(len(part) < 32 for part in parts):
        raise ValueError("must be one secret of at least 32 characters, or two during a rotation")
    return parts


def _origin(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in {"http", "https"} or not url.hostname or text != _origin_of(text):
        raise ValueError("must be exact origins such as https://example.com, without a path")
    return text


def _origin_of(text: str) -> str:
    url = urlsplit(text)
    return f"{url.scheme}://{url.netloc}"


def _web_url(text: str) -> str:
    url = urlsplit(text)
    if url.query or url.fragment or "@" in url.netloc or not url.hostname:
        raise ValueError("must be a URL with a host, without user, query and fragment")
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.hostname)):
        raise ValueError("must start with https:// (http:// only for this machine)")
    return text.rstrip("/")


def _emulator_url(text: str) -> str:
    url = urlsplit(text)
    if url.scheme != "http" or not is_loopback(url.hostname or "") or url.path not in {"", "/"}:
        raise ValueError("must be http://127.0.0.1:PORT: the emulator runs on this machine only")
    return text.rstrip("/")


def _host_pattern(text: str) -> str:
    if not re.fullmatch(r"(\*\.)?([a-z0-9-]+\.)+[a-z]{2,}", text):
        raise ValueError("must be host names such as cdn.example.com or *.example.com")
    return text


def _fal_user_id(text: str) -> str:
    if not re.fullmatch(r"[!-~]{1,200}", text):
        raise ValueError("must be the user id that fal's webhooks name, without spaces")
    return text


def _queue_url(text: str) -> str:
    url = _web_url(text)
    if not re.fullmatch(r".+/[0-9]{12}/[A-Za-z0-9_-]{1,80}", url):
        raise ValueError(
            "must be the URL of a standard queue, as SQS shows it: "
            "https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
        )
    return url


def _base_path(text: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9_.~-]+)+/?", text):
        raise ValueError("must be a path such as /prod")
    return text.rstrip("/")


def _log_level(text: str) -> str:
    if text.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
    return text.upper()


def is_loopback(host: str) -> bool:
    """Whether a host can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
        _web_url,
        "what the gateway says of itself",
        "The endpoint's own address, for links; never taken from the Host header.",
    ),
    Setting(
        "FAL_IMAGE_SECRET",
        "secrets",
        _secrets,
        "",
        "At least 32 characters; signs the ids of uploads, the links of `file://` storage and "
        "webhooks, so it must be set with a database. Two, separated by a comma, during a "
        "rotation: the first signs, both are accepted.",
    ),
    Setting(
        "FAL_IMAGE_API_KEYS",
        "api_keys",
        _pairs("caller=sha256hex", _sha256_hex),
        "",
        "Who may call: `caller=sha256hex`, separated by commas; a caller may have several.",
    ),
    Setting(
        "FAL_IMAGE_ALLOW_ANONYMOUS",
        "allow_anonymous",
        _boolean,
        "0",
        "1: who shows no credential is the caller `anonymous`. Everybody who finds the URL then "
        "spends your money.",
    ),
    Setting(
        "FAL_IMAGE_MODELS",
        "models",
        _list(_glob),
        "fal-ai/flux*,fal-ai/flux*/**",
        "Model ids that may be used; `*` stands for anything but `/`, `**` for anything.",
    ),
    Setting(
        "FAL_IMAGE_DEFAULT_MODEL",
        "default_model",
        _model,
        "fal-ai/flux/schnell",
        "The model of a request that names none.",
    ),
    Setting(
        "FAL_IMAGE_MODEL_ALIASES",
        "model_aliases",
        _pairs("alias=model", _model),
        "",
        "Names of your own for models: `fast=fal-ai/flux/schnell`.",
    ),
    Setting(
        "FAL_IMAGE_CORS_ORIGINS",
        "cors_origins",
        _list(_origin),
        "",
        "Web origins whose pages may call, exactly as browsers send them. Empty: no CORS headers, "
        "for a gateway that adds them itself.",
    ),
    Setting(
        "FAL_IMAGE_LINK_TTL_S",
        "link_ttl_s",
        _integer(1, 3600),
        "3600",
        "Life of a link in seconds: the default and the most a request may ask for.",
    ),
    Setting(
        "FAL_IMAGE_LINK_BASE_URL",
        "link_base_url",
        _web_url,
        "",
        "A public bucket or CDN in front of it: links are this address and the key, unsigned.",
    ),
    Setting(
        "FAL_IMAGE_MAX_IMAGE_BYTES",
        "max_image_bytes",
        _integer(1, 2**30),
        "67108864",
        "The largest picture that is fetched from fal or uploaded for it, in bytes.",
    ),
    Setting(
        "FAL_IMAGE_MAX_WAIT_S",
        "max_wait_s",
        _integer(1, 900),
        "55",
        "The longest a request waits for its picture, in seconds.",
    ),
    Setting(
        "FAL_IMAGE_FETCH_HOSTS",
        "fetch_hosts",
        _list(_host_pattern),
        "",
        "Hosts besides `*.fal.media` that finished pictures may be fetched from.",
    ),
    Setting(
        "FAL_IMAGE_DAILY_BUDGET_USD",
        "daily_budget_usd_micro",
        _usd_micro,
        "",
        "The most each caller may spend per UTC day, in dollars such as `5` or `0.50`. Unset: "
        "no limit.",
    ),
    Setting(
        "FAL_IMAGE_WEBHOOK_USER_ID",
        "webhook_user_id",
        _fal_user_id,
        "",
        "The only fal user whose webhooks are believed, as `X-Fal-Webhook-User-Id` names it.",
    ),
    Setting(
        "FAL_IMAGE_WEBHOOK_HOSTS",
        "webhook_hosts",
        _list(_host_pattern),
        "",
        "Hosts that a request's `webhookUrl` may name: exact ones, or `*.example.com` for all "
        "below. Empty: every `webhookUrl` is refused.",
    ),
    Setting(
        "FAL_IMAGE_PROXY_STORE_IMAGES",
        "proxy_store_images",
        _boolean,
        "0",
        "1: pictures of results that pass through the proxy are copied into the bucket, and the "
        "answers link to them there.",
    ),
    Setting(
        "FAL_IMAGE_QUEUE_URL",
        "queue_url",
        _queue_url,
        "",
        "The SQS queue whose messages name jobs that have something to do. Unset: whoever learns "
        "of it does it.",
    ),
    Setting(
        "FAL_IMAGE_JOB_RETENTION_DAYS",
        "job_retention_days",
        _integer(1, 3650),
        "30",
        "How long finished jobs are remembered, in days. Pictures stay.",
    ),
    Setting(
        "FAL_IMAGE_BASE_PATH",
        "base_path",
        _base_path,
        "",
        "A path in front of every route, for example `/prod`.",
    ),
    Setting(
        "FAL_IMAGE_LOG_LEVEL", "log_level", _log_level, "INFO", "DEBUG, INFO, WARNING or ERROR."
    ),
    Setting(
        "FAL_IMAGE_EMULATOR_URL",
        "emulator_url",
        _emulator_url,
        "",
        "Sends every call for fal to the emulator on this machine; no money is spent.",
    ),
)
