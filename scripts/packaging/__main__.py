"""scripts/package: make the package that a cloud is given, .build/TARGET and .build/TARGET.zip.

Says on stdout how large it is and what makes it so, on stderr why there is none. Exit codes:
0 made, 1 not made, 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .build import Package, build
from .targets import CLOUDS, PYTHONS, Target
from .wheels import CannotPackage

PARTS_SHOWN = 8
COMPILING_S = 0.3  # `scripts/bench --only cold`, with and without bytecode


def main(arguments: Sequence[str]) -> int:
    target = _target(arguments)
    try:
        package = build(target)
    except (CannotPackage, OSError) as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print("\n".join(_report(target, package)))
    return 0


def _target(arguments: Sequence[str]) -> Target:
    arches = sorted({arch for cloud in CLOUDS.values() for arch in cloud.arches})
    parser = argparse.ArgumentParser(prog="scripts/package", description=__doc__.partition("\n")[0])
    parser.add_argument("target", choices=CLOUDS)
    parser.add_argument("--python", choices=PYTHONS, help="the version that the function runs on")
    parser.add_argument("--arch", choices=arches, help="the machine that it runs on")
    options = parser.parse_args(arguments)
    cloud = CLOUDS[options.target]
    arch = options.arch or cloud.arches[0]
    if arch not in cloud.arches:
        parser.error(f"{cloud.name} runs on {' or '.join(cloud.arches)}, not on {arch}")
    return Target(cloud, options.python or cloud.python, arch)


def _report(target: Target, package: Package) -> list[str]:
    limit = target.cloud.max_zip_bytes
    lines = [
        f"{package.zip}: Python {target.python}, {target.arch},"
        f" {package.zip_bytes / 1e6:.1f} MB zipped of at most {limit / 1e6:.0f}"
    ]
    for name, part in package.parts.most_common(PARTS_SHOWN):
        lines.append(f"{part / 1000:9,.0f} KB  {name}")
    return [*lines, _on_bytecode(target, package)]


def _on_bytecode(target: Target, package: Package) -> str:
    if package.compiler:
        size = f"{package.bytecode_bytes / 1000:9,.0f} KB"
        return f"{size}  of all this is bytecode, made by Python {package.compiler.release}"
    return (
        f"without bytecode, because no Python {target.python} was found here: every cold start"
        f" compiles what it imports, which takes {COMPILING_S} s or more. Install Python"
        f" {target.python}, so that `python{target.python}` starts it, and make the package again."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
