"""Bad input: one clear line that names the file and the remedy; the rest of the cohort is done."""

from __future__ import annotations

import shutil
import threading
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
from bad_inputs import test_slides as bad
from commands import CHOICES, msiscale
from store.test_web import Ranges

from msiscale.store import web

pytestmark = pytest.mark.usefixtures("shared_cluster")


def edit(manifest: Path, **cells: dict[str, str]) -> None:
    """Change cells of a manifest: ``column={specimen: value}``."""
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False).set_index("specimen")
    for column, values in cells.items():
        for specimen, value in values.items():
            table.loc[specimen, column] = value
    table.fillna("").reset_index().to_csv(manifest, index=False)


def test_one_bad_specimen_does_not_stop_the_others(copied: Path, tmp_path: Path) -> None:
    makers = {"broken": bad.words, "unopenable": bad.cut_tiff, "unreadable": bad.half_a_tile}
    slides = {}
    for name, make in {**makers, "no_mpp": bad.png}.items():
        (tmp_path / name).mkdir()
        slides[name] = str(make(tmp_path / name))
    table = pd.read_csv(copied, dtype=str, keep_default_na=False)
    row = table[table["specimen"] == "S01"].iloc[0].to_dict()
    cells = {
        "broken": {"slide": slides["broken"]},
        "unopenable": {"slide": slides["unopenable"]},
        "unreadable": {"slide": slides["unreadable"], "mpp": "4"},
        "no_mpp": {"slide": slides["no_mpp"], "mpp": ""},
        "cut": {"msi": "cut.imzML"},
        "missing": {"msi": "not_there.imzML"},
    }
    rows = [{**row, **changes, "specimen": name} for name, changes in cells.items()]
    twice = [{**row, "specimen": "twice"}] * 2
    pd.concat([table, pd.DataFrame(rows + twice)]).to_csv(copied, index=False)
    shutil.copy(copied.parent / "S01.imzML", copied.parent / "cut.imzML")
    data = (copied.parent / "S01.ibd").read_bytes()
    (copied.parent / "cut.ibd").write_bytes(data[: len(data) // 2])

    out = tmp_path / "run"
    said = msiscale("run", copied, "--out", out, *CHOICES)
    assert said.code == 3, said.err
    assert "Traceback" not in said.err
    for name, words in {
        "broken": [slides["broken"]],
        "unopenable": [slides["unopenable"]],
        "unreadable": [slides["unreadable"]],
        "no_mpp": [slides["no_mpp"], "mpp"],
        "cut": ["cut.i"],
        "missing": ["not_there.imzML", "'msi'"],
        "twice": ["2 rows"],
    }.items():
        (line,) = [x for x in said.err.splitlines() if x.startswith(f"  {name}: ")]
        assert all(word in line for word in words), line
        assert len(line) < 400
    status = msiscale("status", out)
    assert status.code == 0
    assert sum(" failed: " in line for line in status.out.splitlines()) == 7
    metrics = pd.read_csv(out / "metrics.csv")
    assert {"S01", "S02", "S03"} <= set(metrics["specimen"])
    page = (out / "report.html").read_text()
    assert "broken/slide.svs" in page and "not_there.imzML" in page

    checked = msiscale("check", copied, *CHOICES)
    assert checked.code == 1
    for word in (*slides.values(), "mpp", "cut.i", "not_there"):
        assert sum(word in line for line in checked.out.splitlines()) >= 1, word


class Refusing(Ranges):
    """Files of a folder, but for those of one specimen, which nobody may read."""

    def do_GET(self) -> None:
        self.send_error(403) if "S02" in self.path else super().do_GET()

    def do_HEAD(self) -> None:
        self.send_error(403) if "S02" in self.path else super().do_HEAD()


def test_inputs_that_cannot_be_reached_set_their_specimen_aside(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(web.ALLOWED, "1")
    monkeypatch.setattr(web, "RETRY", web.RETRY.new(total=1))
    folder = copied.parent
    edit(copied, msi={"S03": "http://127.0.0.1:9/S03.imzML"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Refusing, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/manifest.csv"
        said = msiscale("ingest", url, "--out", tmp_path / "run", *CHOICES)
    finally:
        server.shutdown()
    assert said.code == 3 and "Traceback" not in said.err
    assert "2 of 3 specimens failed" in said.err
    lines = {line.split(":")[0].strip(): line for line in said.err.splitlines()}
    assert "'msi'" in lines["S02"] and "access denied" in lines["S02"], lines
    assert "127.0.0.1:9" in lines["S03"] and "credentials and run the same" in lines["S03"]
    assert all(len(line) < 500 for line in lines.values())


def test_a_sound_cohort_checks(cohort: Path) -> None:
    said = msiscale("check", cohort, *CHOICES)
    assert said.code == 0, said.out + said.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "none.csv", "--out", "x"], "none.csv"),
        (["run", "{manifest}", "--out", "x", "--encoder", "vgg"], "vgg"),
        (["run", "{manifest}", "--out", "x", "--weights", "none.pth"], "none.pth"),
        (["run", "{manifest}"], "--out"),
        (["run", "{manifest}", "--out", "x", "--normalise", "max"], "max"),
        (["frobnicate"], "frobnicate"),
        (["status", "{folder}"], "no run there"),
        (["fit", "{manifest}", "--out", "x"], "run it first"),
        (["predict", "{folder}", "{manifest}", "--out", "x"], "no Zarr store"),
    ],
)
def test_bad_use_is_one_line_and_exit_1(
    cohort: Path, tmp_path: Path, words: list[str], expected: str
) -> None:
    places = {"manifest": str(cohort), "folder": str(tmp_path)}
    words = [w.format(**places) if "{" in w else w for w in words]
    words = [str(tmp_path / w) if w == "x" else w for w in words]
    said = msiscale(*words)
    assert said.code == 1
    lines = [x for x in said.err.splitlines() if not x.startswith("msiscale: ingest (")]
    assert expected in lines[-1] and "Traceback" not in said.err


def test_a_mended_specimen_joins(copied: Path, tmp_path: Path) -> None:
    edit(copied, mpp={"S02": "nonsense"})
    out = tmp_path / "run"
    first = msiscale("ingest", copied, "--out", out, *CHOICES)
    assert first.code == 3 and "'nonsense'" in first.err
    edit(copied, mpp={"S02": ""})
    again = msiscale("ingest", copied, "--out", out, *CHOICES)
    assert again.code == 0, again.err
    said = msiscale("register", copied, "--out", out, *CHOICES)
    assert said.code == 0, said.err
    assert "S02" in set(pd.read_csv(out / "registration.csv")["specimen"])
    status = [line.split() for line in msiscale("status", out).out.splitlines()]
    (row,) = (words for words in status if words[0] == "S02")
    assert row[1:4] == ["done"] * 3 and {*row[4:]} == {"missing"}
