"""A program for the Python of a target: sources on stdin become bytecode on stdout.

Both are a JSON object, from names in the package to bytes in base64. Refuses to know the disk, so
no path of this machine gets into bytecode, and this project, which that Python need not have.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import marshal
import sys
from collections.abc import Iterator
from types import CodeType

_UNCHECKED = (0b01).to_bytes(4, "little")  # PEP 552: by hash, and the source is not looked at


def main() -> None:
    sources = json.load(sys.stdin)
    made = {name: _compiled(name, base64.b64decode(text)) for name, text in sources.items()}
    json.dump({name: base64.b64encode(pyc).decode() for name, pyc in made.items()}, sys.stdout)


def _compiled(name: str, source: bytes) -> bytes:
    """The content of a .pyc file; nothing where this Python does not understand the source.

    An import replaces the name by the path that it found, so tracebacks show lines.
    """
    try:
        code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError):
        return b""
    # marshal marks what something else refers to as well. Equal names are one object in the whole
    # process, so before Python 3.11 the marks told what else was loaded; held, all names have one.
    held = list(_strings(code))
    body = marshal.dumps(code)
    del held
    head = importlib.util.MAGIC_NUMBER + _UNCHECKED + importlib.util.source_hash(source)
    return head + body


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (tuple, frozenset)):
        for part in value:
            yield from _strings(part)
    elif isinstance(value, CodeType):
        names = (value.co_names, value.co_varnames, value.co_cellvars, value.co_freevars)
        own = (value.co_name, getattr(value, "co_qualname", ""), value.co_filename)
        yield from _strings((names, own, value.co_consts))


if __name__ == "__main__":
    main()
