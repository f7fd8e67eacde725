"""How far a stage is: rates in its own unit, and at most a line a minute where no terminal is."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest

from msiscale.log import on_the_command_line, say
from msiscale.pipeline import progress as module
from msiscale.pipeline.progress import Progress, amount, duration, ended, rate


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.delenv("MSISCALE_QUIET", raising=False)
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    with on_the_command_line():
        yield capsys


def test_a_line_a_minute_at_most(clock: Clock, said: pytest.CaptureFixture[str]) -> None:
    progress = Progress("features", 100)
    for i in range(90):
        clock.now += 2.0
        progress.step({"mpix": 0.5}, failed=int(i > 60))
    progress.close()
    assert said.readouterr().err.splitlines() == [
        "features: 30/100 tasks, 15 Mpix/min, 2 min 20 s left",
        "features: 60/100 tasks, 15 Mpix/min, 1 min 20 s left",
        "features: 90/100 tasks, 15 Mpix/min, 20 s left, 1 specimen failed",
    ]


def test_nothing_is_said_of_what_takes_no_minute_or_is_to_be_quiet(
    clock: Clock, said: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = Progress("peaks", 2)
    progress.step({"spectra": 5})
    monkeypatch.setenv("MSISCALE_QUIET", "1")
    silent = Progress("peaks", 2)
    clock.now += 100
    silent.step({"spectra": 5})
    assert said.readouterr().err == ""


@pytest.mark.parametrize(
    ("facts", "whole", "words"),
    [
        ({"spectra": 3000}, True, ["300 spectra/s", "10 s left"]),
        ({"cpu_s": 1.0}, True, ["6 specimens/min", "10 s left"]),
        ({"cpu_s": 1.0}, False, ["6 tasks/min", "10 s left"]),
    ],
)
def test_the_unit_is_that_of_the_stage(
    clock: Clock, facts: dict[str, float], whole: bool, words: list[str]
) -> None:
    progress = Progress("any", 2)
    progress.step(facts, whole=whole)
    assert progress.words(10.0) == words


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_one_line_moves_and_others_stand_above_it(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    progress = Progress("ingest", 4)
    assert progress.bar is not None
    progress.bar.mininterval = 0
    for _ in range(2):
        clock.now += 30
        progress.step({"spectra": 600}, failed=1)
    with on_the_command_line():
        say("a warning")
    progress.close()
    text = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "2/4, 20 spectra/s, 1 min 0 s left, 1 specimen failed" in text
    assert "\nmsiscale: a warning\n" in text.replace("\r", "\n").replace(" ", " ")
    assert text.count("\n") == 1  # the bar itself goes


def test_the_line_at_the_end_of_a_stage() -> None:
    spent = {"wall_s": 100.0, "mpix": 345.0, "bytes_written": 7}
    assert ended("features", 190.2, 5, 1, spent) == (
        "features: 4 specimens in 3 min 10 s, 345 Mpix at 3.5 Mpix/s; 1 specimen failed"
    )
    assert ended("fit", 0.2, 1, 0, {}) == "fit: 1 specimen in 0 s"


def test_numbers_are_for_people() -> None:
    assert [duration(s) for s in (0.4, 59, 60, 3599, 7500)] == [
        *("0 s", "59 s", "1 min 0 s", "59 min 59 s", "2 h 5 min"),
    ]
    assert rate(1, 7200, "specimens") == "0.5 specimens/h"
    assert [amount(v) for v in (0.123, 5.0, 12.34, 12345.6)] == ["0.12", "5", "12.3", "12,346"]
