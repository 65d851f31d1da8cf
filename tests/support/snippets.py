"""The code blocks of the documentation, and which tests look at which page.

Refuses to know what any block is for: tests/tooling/test_snippets.py says that.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"

# What a text says of a block that no machine without these can run: of the block right below it, or
# of a whole section, if it stands in its introduction and says so.
_NEEDS = r"(?:Needs (?:a live account|Docker|npm|PyPI|\[ExifTool)\b|需要(?:真实账号| Docker))"
MARKER = re.compile(_NEEDS)
SECTION_MARKER = re.compile(rf"{_NEEDS}[^.。]*(?:this\s+section|本节)")

TITLE_CHARS = 300
_FENCE = re.compile(r"^\s*```(\w*)\s*$")
_HEADING = re.compile(r"^(#+) (.*)$")


@dataclass(frozen=True)
class Block:
    """`title` is its language, the heading above it, and the comment right before it or else how it
    begins. It is `marked` if the
    paragraph right before it, or the introduction of a section around it, says what it needs."""

    page: str
    line: int
    title: str
    text: str
    marked: bool


def pages() -> list[str]:
    """Every page whose blocks a reader may paste, as a path from the root."""
    top = [path for path in sorted(ROOT.glob("*.md")) if path.name != "CHANGELOG.md"]
    return [str(path.relative_to(ROOT)) for path in (*top, *sorted(ROOT.glob("docs/*.md")))]


def blocks(page: str) -> list[Block]:
    """The blocks of a page, from its first line to its last."""
    return list(blocks_of(page, (ROOT / page).read_text(encoding="utf-8")))


def blocks_of(page: str, text: str) -> Iterator[Block]:
    sections: list[tuple[int, str, str]] = [(0, "", "")]  # depth, heading, introduction
    paragraph, is_introduction, gap = "", True, True
    language, inside, began = None, "", 0
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line)
        if fence and language is None:
            language, inside, began, is_introduction = fence[1], "", number, False
        elif fence:
            said = re.search(r"<!-- .* -->$", paragraph)
            words = said[0] if said else " ".join(inside.split())[:TITLE_CHARS]
            title = f"{language} | {sections[-1][1]} | {words}"
            marked = MARKER.search(paragraph) or any(
                SECTION_MARKER.search(introduction) for _, _, introduction in sections
            )
            yield Block(page, began, title, inside, bool(marked))
            language, paragraph = None, ""
            gap = True
        elif language is not None:
            inside += line + "\n"
        elif heading := _HEADING.match(line):
            depth = len(heading[1])
            sections = [one for one in sections if one[0] < depth]
            sections.append((depth, heading[2], ""))
            paragraph, is_introduction, gap = "", True, True
        elif line.strip():
            paragraph, gap = line if gap else f"{paragraph}\n{line}", False
            if is_introduction:
                depth, name, introduction = sections[-1]
                sections[-1] = (depth, name, f"{introduction}\n{line}")
        else:
            gap = True


# Which tests look at a page: by names alone, so that nothing has to be imported or run.

Place = tuple[str, str]  # a module below tests/ and a name at its top


@dataclass(frozen=True)
class Module:
    """The top of a file: what each name's definition uses, and what texts it holds."""

    uses: Mapping[str, frozenset[str]]
    texts: Mapping[str, frozenset[str]]
    imported: Mapping[str, Place]
    fixtures: frozenset[str]


@cache
def module(path: str) -> Module:
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    uses: dict[str, frozenset[str]] = {}
    texts: dict[str, frozenset[str]] = {}
    imported: dict[str, Place] = {}
    fixtures: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            imported |= _imported(node, path)
        for name in _defined(node):
            used = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
            used |= {f"{a}.{b}" for a, b in _attributes(node)}
            used |= {inner.arg for inner in ast.walk(node) if isinstance(inner, ast.arg)}
            held = {
                inner.value
                for inner in ast.walk(node)
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
            }
            uses[name] = frozenset(used - {name}) | uses.get(name, frozenset())
            texts[name] = frozenset(held - {_docstring(node)}) | texts.get(name, frozenset())
            if _is_fixture(node):
                fixtures.add(name)
    return Module(uses, texts, imported, frozenset(fixtures))


def _imported(node: ast.ImportFrom, path: str) -> dict[str, Place]:
    """The names that come from a module below tests/."""
    source = node.module or ""
    if node.level:
        source = ".".join(filter(None, [*Path(path).parent.parts, source]))
    found: dict[str, Place] = {}
    for alias in node.names:
        own, inner = source.replace(".", "/"), f"{source}/{alias.name}".replace(".", "/")
        if (TESTS / f"{inner}.py").exists():
            found[alias.asname or alias.name] = (f"{inner}.py", "*")
        elif (TESTS / f"{own}.py").exists():
            found[alias.asname or alias.name] = (f"{own}.py", alias.name)
    return found


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets += [node.target] if isinstance(node, ast.AnnAssign) else []
    names = [inner for target in targets for inner in ast.walk(target)]
    return [inner.id for inner in names if isinstance(inner, ast.Name)]


def _attributes(node: ast.AST) -> Iterator[tuple[str, str]]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
            yield inner.value.id, inner.attr


def _docstring(node: ast.AST) -> str | None:
    has_one = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    return ast.get_docstring(node, clean=False) if has_one else None  # type: ignore[arg-type]


def _is_fixture(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any("fixture" in ast.unparse(decorator) for decorator in decorators)


def reads(test: str, page: str) -> bool:
    """Whether a test, `tests/…/test_x.py::test_y`, uses a name whose definition names the page,
    by itself or through functions, fixtures and modules of tests/ that it uses."""
    path, _, name = test.removeprefix("tests/").partition("::")
    wanted = Path(page).name
    seen: set[Place] = set()
    ahead: list[Place] = [(path, name)]
    while ahead:
        place = ahead.pop()
        if place in seen:
            continue
        seen.add(place)
        found = module(place[0])
        held = found.texts.get(place[1], frozenset())
        if any(text == wanted or text.endswith(f"/{wanted}") for text in held):
            return True
        ahead += _next(place, found)
    return False


def _next(place: Place, found: Module) -> Iterator[Place]:
    path, name = place
    for used in found.uses.get(name, frozenset()):
        owner, _, attribute = used.partition(".")
        if attribute and owner in found.imported:
            yield found.imported[owner][0], attribute
        elif used in found.imported:
            yield found.imported[used]
        elif used in found.uses:
            yield path, used
        elif (TESTS / path).with_name("conftest.py").exists():
            conftest = str(Path(path).with_name("conftest.py"))
            if used in module(conftest).fixtures:
                yield conftest, used
