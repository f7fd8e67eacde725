"""A page of `msiscale place` in a browser, as the tests see and use it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

WIDE, TABLET = {"width": 1400, "height": 900}, {"width": 820, "height": 1180}


@dataclass
class Seen:
    """A page in a browser, and what went wrong on it."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, path: Path, viewport: dict[str, int] = WIDE) -> None:
        self.page.set_viewport_size(viewport)
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("body[data-ready=yes]", timeout=60_000)

    def run(self, expression: str) -> Any:
        """Of the app, as `app`."""
        return self.page.evaluate(
            f"(() => {{ const {{ app }} = placing; return {expression}; }})()"
        )

    def canvas(self, side: str) -> Any:
        return self.page.locator(f"[data-side={side}] canvas")

    def at(self, panel: str, side: str, xy: Any) -> tuple[float, float]:
        """Where a panel shows a point: of the slide (level-0 pixels) or the MSI (indices)."""
        x, y = self.run(f"app.panels.{panel}.of('{side}', [{float(xy[0])}, {float(xy[1])}])")
        box = self.canvas(panel).bounding_box()
        return box["x"] + 1 + x, box["y"] + 1 + y  # within the border

    def click(self, panel: str, side: str, xy: Any) -> None:
        """A real click, at whole pixels as a mouse has them."""
        x, y = self.at(panel, side, xy)
        self.page.mouse.click(round(x), round(y))

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """From one place to another, both at whole pixels."""
        mouse, by = self.page.mouse, [round(b - a) for a, b in zip(start, end, strict=True)]
        x, y = round(start[0]), round(start[1])
        mouse.move(x, y)
        mouse.down()
        mouse.move(x + by[0], y + by[1], steps=4)
        mouse.up()

    def do(self, what: str) -> None:
        self.page.locator(f"[data-do={what}]").click()

    def use(self, tool: str) -> None:
        self.page.locator(f"button[data-tool={tool}]").click()

    @property
    def matrix(self) -> np.ndarray:
        return np.array([*self.run("app.state.matrix"), [0, 0, 1]])

    def download(self, kind: str, folder: Path) -> Path:
        with self.page.expect_download() as waiting:
            self.page.locator(f"[data-save={kind}]:not([data-choose])").click()
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path
