"""AWS over plain HTTP: its hosts, its signature, whose keys, and one call with its attempts.

No SDK is loaded: building boto3's client takes longer than everything else before a function's
first submit (`scripts/bench --only cold`). Refuses to know what is called.
"""

from .attempts import ATTEMPTS, AwsError, persist
from .calls import Calls, Reply
from .credentials import Credentials, Keys
from .hosts import s3_host, service_host
from .json_service import AwsService, Protocol
from .signing import signed_headers, signed_url

__all__ = [
    "ATTEMPTS",
    "AwsError",
    "AwsService",
    "Calls",
    "Credentials",
    "Keys",
    "Protocol",
    "Reply",
    "persist",
    "s3_host",
    "service_host",
    "signed_headers",
    "signed_url",
]
