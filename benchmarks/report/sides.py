"""Writing the pages of a report, a cohort of many specimens made of few, opening in Chromium."""

from __future__ import annotations

import importlib.util
import json
import shutil
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import pandas as pd

from msiscale.report import write_page, write_report, write_thumbnail
from msiscale.store import Ledger

LIBRARIES = ("msiscale.report.html",)
_TIMES = 3
_OPEN = "details.specimen summary"
_FIRST = "performance.getEntriesByName('first screen')[0].startTime"


def write(out: str) -> None:
    """The report of a small cohort."""
    write_report(out)


def write_index(out: str) -> None:
    """The first page of a large one."""
    write_report(out, pages=False)


def write_pages(out: str, names: list[str]) -> None:
    """Some of the pages of its specimens."""
    for name in names:
        write_page(out, name)


def multiplied(source: Path, out: Path, n: int) -> list[str]:
    """A store of `n` specimens, each of them one of the source's; returns their names."""
    run = json.loads((source / "run.json").read_text())
    originals = list(run["specimens"])
    names = [f"N{i:03d}" for i in range(n)]
    origin = dict(zip(names, islice(cycle(originals), n), strict=True))
    out.mkdir()
    for path in source.glob("*.csv"):
        (out / path.name).write_text(_multiplied_table(path, origin))
    for zarr in ("cohort.zarr", "predictions.zarr"):
        (out / zarr).mkdir()
        for name, original in origin.items():
            (out / zarr / name).symlink_to((source / zarr / original).resolve())
    ledger, figures = Ledger(str(out)), out / "figures"
    figures.mkdir()
    for original in originals:
        write_thumbnail(str(source), original)
    for path in (source / "figures").glob("biomarker-*.png"):
        shutil.copy(path, figures)
    for name, original in origin.items():
        ledger.write("fit", name, "key", "done")
        for path in (source / "figures").glob(f"*_{original}.*"):
            (figures / path.name.replace(original, name)).symlink_to(path.resolve())
    run |= {"specimens": names, "patients": {name: name for name in names}}
    (out / "run.json").write_text(json.dumps(run))
    return names


def _multiplied_table(path: Path, origin: dict[str, str]) -> str:
    whole = pd.read_csv(path, dtype=str, keep_default_na=False)
    if "specimen" not in whole or whole.empty:
        return path.read_text()
    parts = [whole[~whole["specimen"].isin(list(origin.values()))]]
    rows = dict(list(whole.groupby("specimen")))
    parts += [rows[o].assign(specimen=n) for n, o in origin.items() if o in rows]
    return str(pd.concat(parts).to_csv(index=False))


def in_chromium(files: dict[str, Path]) -> dict[str, dict[str, float]]:
    """Seconds until a page shows its first screen, is ready, and shows a specimen's panels."""
    chromium = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None
    )
    if chromium is None or importlib.util.find_spec("playwright") is None:
        print("no Chromium or no playwright here: opening is not measured")
        return {}
    from playwright.sync_api import sync_playwright

    found: dict[str, dict[str, float]] = {}
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, path in files.items():
            first, ready, panels = [], [], []
            for _ in range(_TIMES):
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                began = time.perf_counter()
                page.goto(path.resolve().as_uri())
                page.wait_for_selector("body[data-ready=yes]", timeout=120_000)
                ready.append(time.perf_counter() - began)
                first.append(page.evaluate(_FIRST) / 1000)
                if page.locator(_OPEN).count():
                    began = time.perf_counter()
                    page.locator(_OPEN).first.click()
                    page.wait_for_selector(".viewer[data-ready=yes]", timeout=120_000)
                    panels.append(time.perf_counter() - began)
                page.close()
            found[name] = {"first screen s": median(first), "ready s": median(ready)}
            if panels:
                found[name]["panels s"] = median(panels)
        browser.close()
    return found
