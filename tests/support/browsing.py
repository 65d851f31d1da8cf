"""Somebody at a browser: pages in Chromium, found and used by what a person sees of them.

The browser is one process with many profiles; tests/node/browse.mjs does what is ordered here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .node import conversation

Order = Callable[..., Any]
Chain = tuple[tuple[Any, ...], ...]


class Broken(Exception):
    """What was ordered could not be done: nothing of that name is there, or not in time."""


@dataclass(frozen=True)
class Place:
    """Something on a page. Every way in waits until it is there."""

    order: Order
    visit: int
    chain: Chain = ()

    def __getattr__(self, method: str) -> Callable[..., Any]:
        """Any of Playwright's methods that need no function: `click`, `fill`, `get_attribute`."""
        return lambda *given: self._call(method, *given)

    def _call(self, method: str, *given: Any) -> Any:
        name = camel(method)
        return self.order("call", visit=self.visit, chain=self.chain, method=name, given=given)

    def _to(self, *step: Any) -> Place:
        return Place(self.order, self.visit, (*self.chain, step))

    def find(self, selector: str) -> Place:
        return self._to("locator", selector)

    def role(self, role: str, name: str | None = None, *, exact: bool = False) -> Place:
        """By what a screen reader calls it."""
        named = {} if name is None else {"name": name, "exact": exact}
        return self._to("getByRole", role, named)

    def field(self, label: str) -> Place:
        return self._to("getByLabel", label, {"exact": True})

    def words(self, text: str) -> Place:
        """Where these words stand."""
        return self._to("getByText", text)

    def nth(self, place: int) -> Place:
        return self._to("nth", place)

    @property
    def first(self) -> Place:
        return self.nth(0)

    def button(self, name: str) -> Place:
        return self.role("button", name, exact=True)

    def see(self) -> Place:
        """Wait until it is visible."""
        self._call("waitFor", {"state": "visible"})
        return self

    def see_gone(self) -> None:
        self._call("waitFor", {"state": "hidden"})

    def text(self) -> str:
        return str(self._call("innerText"))

    def count(self) -> int:
        return int(self._call("count"))

    def is_visible(self) -> bool:
        return bool(self._call("isVisible"))

    def download(self) -> tuple[str, bytes]:
        """Click, and the file that is saved: its name and its bytes."""
        name, content = self.order("download", visit=self.visit, chain=self.chain)
        return name, base64.b64decode(content)


@dataclass(frozen=True)
class Visit(Place):
    """One page in a profile of its own."""

    def press(self, keys: str) -> None:
        """Press keys wherever the focus is, one after another."""
        for key in keys.split():
            self.find(":focus").press(key)

    def type(self, text: str) -> None:
        self.find(":focus").press_sequentially(text)

    def focused(self) -> str:
        """The id, else the words, of what has the focus."""
        said = "[document.activeElement].map((e) => e.id || e.innerText)[0]"
        return str(self._call("evaluate", said))

    def run(self, expression: str) -> Any:
        return self._call("evaluate", expression)

    def forward(self, *, s: float) -> None:
        """Move the page's clock, if the visit has one."""
        self.order("clock", visit=self.visit, method="fastForward", given=[round(s * 1000)])

    def lose(self, url: str, times: int) -> None:
        """Drop the answers to the next requests to this address, a glob."""
        self.order("lose", visit=self.visit, url=url, times=times)

    def asked(self) -> list[dict[str, Any]]:
        """All that left the page: method, url, headers, body."""
        return list(self.order("asked", visit=self.visit))

    def said(self) -> list[str]:
        """What the page's console tells of errors."""
        return list(self.order("said", visit=self.visit))

    def violations(self) -> list[str]:
        """What axe-core finds wrong, with all its rules."""
        return list(self.order("axe", visit=self.visit))


@dataclass(frozen=True)
class Browser:
    order: Order

    @contextmanager
    def visit(
        self,
        url: str = "",
        *,
        locale: str = "en-US",
        width: int = 1280,
        has_clock: bool = False,
        **options: Any,
    ) -> Iterator[Visit]:
        """A visit in a new profile; `options` are Playwright's for a browser's context."""
        size = {"width": width, "height": 800}
        given = {"locale": locale, "viewport": size, **{camel(k): v for k, v in options.items()}}
        visit = Visit(self.order, self.order("open", options=given, clock=has_clock))
        try:
            if url:
                visit.goto(url)
            yield visit
        finally:
            self.order("close", visit=visit.visit)


@contextmanager
def browsing(executable: str, folder: Path) -> Iterator[Browser]:
    """A browser, which keeps what it writes in `folder`."""
    with conversation("browse.mjs", executable, folder) as tell:

        def order(deed: str, **given: Any) -> Any:
            report = json.loads(tell(json.dumps({"deed": deed, **given})))
            if "broke" in report:
                raise Broken(report["broke"])
            return report["answer"]

        yield Browser(order)


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)
