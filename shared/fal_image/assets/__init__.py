"""Pictures: `fetching` gets them from fal, `finishing` treats them, `service` stores and links
them, `keys` names them."""

from .fetching import CopyError, decode_data_uri
from .finishing import SPOOL_BYTES
from .keys import manifest_key, manifest_of, of_picture
from .service import Assets, Kept, nothing, storage_answers

__all__ = [
    "SPOOL_BYTES",
    "Assets",
    "CopyError",
    "Kept",
    "decode_data_uri",
    "manifest_key",
    "manifest_of",
    "nothing",
    "of_picture",
    "storage_answers",
]
