"""Pages of three phantoms: one with landmarks, one found by its images, one that is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from placing import Seen

from msiscale.place import Placed, place
from msiscale.simulate import simulate

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


@dataclass(frozen=True)
class Pages:
    """A cohort, its run, and what `place` said."""

    manifest: Path
    out: Path
    placed: Placed

    def page(self, name: str) -> Path:
        return self.out / "place" / f"{name}.html"

    def truth(self, name: str) -> np.ndarray:
        text = (self.manifest.parent / "truth" / f"{name}.json").read_text()
        return np.array(json.loads(text)["matrix"])

    def content(self, name: str) -> dict[str, Any]:
        """What the page of a specimen holds."""
        text = self.page(name).read_text()
        found = re.search(
            r'<script type="application/json" id="content">(.*?)</script>', text, re.S
        )
        assert found is not None
        return json.loads(found[1])


def scattered(imzml: Path) -> None:
    """Give every spectrum the place of another: the geometry stays, and the images tell nothing."""
    text = imzml.read_text()
    pattern = re.compile(r'(IMS:10000(?:50|51)"[^>]*value=")(\d+)(")')
    places = [m[2] for m in pattern.finditer(text)]
    pairs = np.array(places).reshape(-1, 2)
    shuffled = iter(np.random.default_rng(0).permutation(pairs).ravel().tolist())
    imzml.write_text(pattern.sub(lambda m: m[1] + next(shuffled) + m[3], text))


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory, scheduler: str) -> Pages:
    """S01 has landmarks and an annotation, S02 neither, S03 neither and no structure."""
    folder = tmp_path_factory.mktemp("place")
    simulate(folder / "cohort", specimens=3, seed=1, pixels=(20, 22), mpp=4.0)
    manifest = folder / "cohort" / "manifest.csv"
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False).set_index("specimen")
    table.loc[["S02", "S03"], "landmarks"] = ""
    table.loc["S03", "annotation"] = ""
    table.to_csv(manifest)
    scattered(manifest.parent / table.loc["S03", "msi"])
    placed = place(str(manifest), str(folder / "run"), scheduler=scheduler)
    return Pages(manifest, folder / "run", placed)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on the path")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def seen(chromium: Any) -> Iterator[Seen]:
    """A page on which no error may be logged and to which nothing may be fetched."""
    context = chromium.new_context(accept_downloads=True, has_touch=True)
    page = context.new_page()
    seen = Seen(page)
    page.on("console", lambda m: seen.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("request", lambda r: seen.requests.append(r.url))
    yield seen
    context.close()
    assert seen.errors == []
    assert [r for r in seen.requests if not r.startswith(("file:", "data:", "blob:"))] == []
