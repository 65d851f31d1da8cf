"""scripts/deploy: from settings to a function in a cloud, by the cloud's own command line.

Exit codes: 0 done, 2 the settings or this machine lack something and nothing was made, else what
the cloud's program ended with, 130 interrupted. Refuses to know any cloud.
"""

from __future__ import annotations

import sys

USAGE = (
    "usage: scripts/deploy aws|cloudbase|cloudbase-http [--check] [arguments of the cloud's CLI]"
)


def main(arguments: list[str]) -> int:
    target, *rest = arguments or [""]
    if target == "aws":
        from . import aws

        return aws.main(rest)
    if target in ("cloudbase", "cloudbase-http"):
        from . import cloudbase

        return cloudbase.main(target, rest)
    print(USAGE, file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
