"""The owner's settings: one frozen object read once from the environment.

A value that cannot be used does not raise here: it is kept in `Settings.problems`, so that an
endpoint can say what is wrong instead of dying at import. Nothing is opened here: a key of fal that
is kept elsewhere is fetched by `keyring`. Facts of one invocation (credentials, time left, caller)
are not settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from ..spellings import (
    fal_key,
    parameter_name,
)
from ..treatment import Level
from .table import TABLE

PREFIX = "FAL_IMAGE_"
FAL_HOSTS = frozenset({"fal.run", "queue.fal.run", "rest.fal.ai", "api.fal.ai"})

# The ways to give fal's key: the variables of each, and what they are read as.
_FAL_KEYS: tuple[tuple[tuple[str, ...], str, Callable[[str], str]], ...] = (
    (("FAL_KEY",), "fal_key", fal_key),
    (("FAL_KEY_ID", "FAL_KEY_SECRET"), "fal_key", fal_key),
    (("FAL_KEY_FILE",), "fal_key_file", str),
    (("FAL_KEY_SSM_PARAM",), "fal_key_ssm_param", parameter_name),
)
FAL_KEY_NAMES = tuple(name for names, _, _ in _FAL_KEYS for name in names)


@dataclass(frozen=True)
class Settings:
    """Everything the owner can say. Secrets never appear in its repr."""

    fal_key: str | None = field(default=None, repr=False)
    fal_key_file: str | None = field(default=None, repr=False)  # a key may stand there by mistake
    fal_key_ssm_param: str | None = field(default=None, repr=False)
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
    trust: tuple[str, ...] = ()
    rate_limit: tuple[int, int] | None = (60, 60)
    daily_budget_usd_micro: int | None = None
    total_daily_budget_usd_micro: int | None = None
    unknown_price_usd_micro: int | None = None
    max_images: int = 4
    max_megapixels: int = 4
    max_steps: int = 50
    max_prompt_chars: int = 4000
    allow_unsafe: bool = False
    flagged: str = "keep"
    webhook_user_id: str | None = None
    webhook_hosts: tuple[str, ...] = ()
    proxy_store_images: bool = False
    ai_label: Level = "off"
    ai_producer: str = "fal-image"
    watermark_font: str | None = None
    queue_url: str | None = None
    job_retention_days: int = 30
    base_path: str = ""
    log_level: str = "INFO"
    emulator_url: str | None = None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def has_budget(self) -> bool:
        """Whether what is spent must be counted."""
        return (self.daily_budget_usd_micro, self.total_daily_budget_usd_micro) != (None, None)


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
        values |= _fal_key(environ)
    except ValueError as error:
        problems.append(str(error))
    settings = Settings(**values, problems=tuple(problems))  # type: ignore[arg-type]
    return replace(settings, warnings=tuple(_unwise(settings)))


def _unwise(settings: Settings) -> Iterator[str]:
    """What works as it is set, and may not be what the owner means."""
    opened = ["FAL_IMAGE_ALLOW_ANONYMOUS"] if settings.allow_anonymous else []
    opened += ["FAL_IMAGE_TRUST"] if settings.trust else []
    is_capped = settings.total_daily_budget_usd_micro is not None
    # Callers who need no key of ours are as many as they like, each with a budget of its own: only
    # the total has an end. The emulator's money is none.
    if opened and not is_capped and settings.emulator_url is None:
        yield (
            f"FAL_IMAGE_TOTAL_DAILY_BUDGET_USD: is not set, and {' and '.join(opened)} lets "
            "callers without a key spend: set what all of them together may spend in a day"
        )
    withholding = ["FAL_IMAGE_FLAGGED"] if settings.flagged == "refuse" else []
    withholding += ["FAL_IMAGE_AI_LABEL"] if settings.ai_label != "off" else []
    if withholding and settings.link_base_url is not None:
        yield (
            "FAL_IMAGE_LINK_BASE_URL: where everybody can read the storage, who knows a file id "
            f"can read what {' and '.join(withholding)} keeps without a link"
        )
    if settings.ai_label != "off" and not settings.proxy_store_images:
        yield (
            "FAL_IMAGE_PROXY_STORE_IMAGES: is 0, so pictures of the proxy's callers stay at fal "
            "and do not carry the AI label that FAL_IMAGE_AI_LABEL asks for"
        )


def _unknown(environ: Mapping[str, str]) -> list[str]:
    known = {row.name for row in TABLE} | {f"{PREFIX}URL", f"{PREFIX}TOKEN"}
    return [
        f"{name}: there is no such setting; see docs/settings.md"
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in known
    ]


def _fal_key(environ: Mapping[str, str]) -> dict[str, str]:
    """fal's key, or where it is read at start. Raises ValueError that names the setting."""
    given = {name: environ.get(name, "").strip() for name in FAL_KEY_NAMES}
    ways = [way for way in _FAL_KEYS if any(given[name] for name in way[0])]
    if not ways:
        return {}
    if len(ways) > 1:
        one, other = ways[0][0][0], ways[1][0][0]
        raise ValueError(f"{other}: {one} is set too, and fal's key may be given in one way only")
    ((names, field_name, parse),) = ways
    for name in names:
        if not given[name]:
            raise ValueError(f"{name}: must be set too, it is half of fal's key")
    try:
        return {field_name: parse(":".join(given[name] for name in names))}
    except ValueError as error:
        raise ValueError(f"{names[0]}: {error}") from None
