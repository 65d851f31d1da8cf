"""How values of settings are spelled: text in, a value out, ValueError with what would be right.

Refuses to know which setting it is.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit


def boolean(text: str) -> bool:
    if text not in {"0", "1"}:
        raise ValueError("must be 0 or 1")
    return text == "1"


def integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def usd_micro(text: str) -> int:
    """Dollars as whole micro-USD, without a float on the way."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text):
        raise ValueError("must be dollars such as 5 or 0.50, below a million, 6 decimals at most")
    whole, _, decimals = text.partition(".")
    return int(whole) * 1_000_000 + int(decimals.ljust(6, "0"))


def unknown_price(text: str) -> int | None:
    """What to put aside where no price is known, in micro-USD; None refuses."""
    words = {"refuse": None, "allow": 0}
    try:
        return words[text] if text in words else usd_micro(text)
    except ValueError as error:
        raise ValueError("must be refuse, allow, or dollars such as 0.10") from error


MAX_RATE = 1000  # a counter keeps a line for each request of its window

_PERIODS_S = {"s": 1, "m": 60, "h": 3600}


def rate(text: str) -> tuple[int, int] | None:
    """How many in how many seconds; None for no limit."""
    if text == "off":
        return None
    found = re.fullmatch(r"([0-9]{1,4})/([smh])", text)
    if found is None or not 1 <= int(found[1]) <= MAX_RATE:
        raise ValueError(f"must be off, or 1 to {MAX_RATE} for each s, m or h, such as 60/m")
    return int(found[1]), _PERIODS_S[found[2]]


def one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be {' or '.join(words)}")
        return text

    return parse


def listed(item: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        return tuple(item(part.strip()) for part in text.split(",") if part.strip())

    return parse


def paired(what: str, value: Callable[[str], str]) -> Callable[[str], tuple[tuple[str, str], ...]]:
    def parse(text: str) -> tuple[tuple[str, str], ...]:
        pairs = []
        for part in text.split(","):
            name, separator, right = part.strip().partition("=")
            if not separator or not re.fullmatch(r"[A-Za-z0-9_.:@/-]{1,64}", name):
                raise ValueError(f"must be {what}, separated by commas")
            pairs.append((name, value(right)))
        return tuple(pairs)

    return parse


# Names that callers have by other ways: nobody may hold one by a key.
_OTHERS = frozenset({"anonymous", "iam", "jwt", "wx", "tcb", "owner"})


def callers(text: str) -> tuple[tuple[str, str], ...]:
    """Names of callers and the SHA-256 of their keys."""
    pairs = paired("caller=sha256hex", sha256_hex)(text)
    for name, _ in pairs:
        if ":" in name or name in _OTHERS:
            raise ValueError(
                f"{name} is no caller's name: no colon, and none of {', '.join(sorted(_OTHERS))}"
            )
    return pairs


def sha256_hex(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ValueError("keeps only the SHA-256 of a key: 64 hex digits after caller=")
    return text.lower()


def model_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+", text) or ".." in text:
        raise ValueError("must be a model id such as fal-ai/flux/schnell")
    return text


def model_glob(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.*/-]+", text):
        raise ValueError("must be model ids in which * stands for anything but / and ** for all")
    return text


def signing_secrets(text: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in text.split(","))
    if len(parts) > 2 or any(len(part) < 32 for part in parts):
        raise ValueError("must be one secret of at least 32 characters, or two during a rotation")
    return parts


def origin(text: str) -> str:
    """As browsers write it (the Fetch standard, Origin header): what is spelt otherwise would
    never match. `null` comes from a page that is a file, and from any frame in a sandbox."""
    if text == "null":
        return text
    if not _ORIGIN.fullmatch(text) or text.endswith(_UNSAID_PORTS[urlsplit(text).scheme]):
        raise ValueError(
            "must be exact origins as browsers send them, such as https://example.com: lower case, "
            "no wildcard, no path, no port that goes without saying; or null, of pages in files"
        )
    return text


_ORIGIN = re.compile(r"https?://([a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?")
_UNSAID_PORTS = {"http": ":80", "https": ":443"}


def origin_of(text: str) -> str:
    url = urlsplit(text)
    return f"{url.scheme}://{url.netloc}"


def web_url(text: str) -> str:
    url = urlsplit(text)
    if url.query or url.fragment or "@" in url.netloc or not url.hostname:
        raise ValueError("must be a URL with a host, without user, query and fragment")
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.hostname)):
        raise ValueError("must start with https:// (http:// only for this machine)")
    return text.rstrip("/")


def emulator_url(text: str) -> str:
    url = urlsplit(text)
    if url.scheme != "http" or not is_loopback(url.hostname or "") or url.path not in {"", "/"}:
        raise ValueError("must be http://127.0.0.1:PORT: the emulator runs on this machine only")
    return text.rstrip("/")


def host_pattern(text: str) -> str:
    if not re.fullmatch(r"(\*\.)?([a-z0-9-]+\.)+[a-z]{2,}", text):
        raise ValueError("must be host names such as cdn.example.com or *.example.com")
    return text


def fal_key(text: str) -> str:
    if not re.fullmatch(r"[!-9;-~]+:[!-~]+", text):
        raise ValueError("not of the form key_id:key_secret, as fal shows it once")
    return text


def parameter_name(text: str) -> str:
    """As Parameter Store spells names and ARNs. Not with a version: that would hold a new key back
    (and fal's key, put here by mistake, is no name)."""
    arn = r"arn:aws[a-z-]*:ssm:[a-z0-9-]+:[0-9]{12}:parameter(?=/)"
    if not re.fullmatch(rf"({arn})?/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", text):
        raise ValueError("must be a parameter's name such as /fal-image/fal-key, or its ARN")
    return text


def fal_user_id(text: str) -> str:
    if not re.fullmatch(r"[!-~]{1,200}", text):
        raise ValueError("must be the user id that fal's webhooks name, without spaces")
    return text


def queue_url(text: str) -> str:
    url = web_url(text)
    if not re.fullmatch(r".+/[0-9]{12}/[A-Za-z0-9_-]{1,80}", url):
        raise ValueError(
            "must be the URL of a standard queue, as SQS shows it: "
            "https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
        )
    return url


def base_path(text: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9_.~-]+)+/?", text):
        raise ValueError("must be a path such as /prod")
    return text.rstrip("/")


def log_level(text: str) -> str:
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
