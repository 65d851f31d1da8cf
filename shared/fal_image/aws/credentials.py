"""Whose keys sign: those of the environment, read at each call; where there are none, those that
botocore finds in profiles, containers and instances.

Only then is botocore imported. Refuses to know what is signed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from .attempts import AwsError


@dataclass(frozen=True)
class Keys:
    """An access key pair; `token` belongs to a temporary one."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


class Credentials:
    """Safe to share between threads."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._found: Callable[[], Keys] | None = None

    def current(self) -> Keys:
        """The keys to sign the next call with. Raises AwsError when there are none."""
        own = _own_keys(self._environ)
        if own is not None:
            return own
        if self._found is None:
            self._found = _found_elsewhere()
        return self._found()


def _own_keys(environ: Mapping[str, str]) -> Keys | None:
    access, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if not access or not secret:
        return None
    return Keys(access, secret, environ.get("AWS_SESSION_TOKEN"))


def _found_elsewhere() -> Callable[[], Keys]:
    """What botocore finds in profiles, containers and instances, renewed when it ends."""
    try:
        import botocore.session
    except ImportError:
        raise AwsError(
            "there are no AWS credentials in the environment, and no botocore to look elsewhere: "
            "pip install boto3"
        ) from None
    with _finding():
        found = botocore.session.get_session().get_credentials()
    if found is None:
        raise AwsError("there are no AWS credentials: neither in the environment nor elsewhere")

    def current() -> Keys:
        with _finding():
            keys = found.get_frozen_credentials()
        return Keys(keys.access_key, keys.secret_key, keys.token)

    return current


@contextmanager
def _finding() -> Iterator[None]:
    """Whatever keeps botocore from credentials is an AwsError: it raises STS's refusals, a file
    that is not there and more as they come."""
    from botocore.exceptions import ConnectionError, HTTPClientError

    try:
        yield
    except Exception as error:
        # After its first line a refused signature's message repeats the session token, and a
        # traceback would repeat the message.
        words = str(error).partition("\n")[0]
        may_pass = isinstance(error, (ConnectionError, HTTPClientError))
        reason = f"no AWS credentials: {type(error).__name__}: {words}"
        raise AwsError(reason, may_pass=may_pass) from None
