"""Which spectra of a file are read, where it has several kinds."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.bad_imzml.files import FILES
from msiscale.errors import InputError
from msiscale.msi import open_source
from msiscale.msi.asked import Asked
from msiscale.msi.scans import Scan, choose


@pytest.mark.parametrize(
    ("case", "asked"),
    [
        ("polarity_alternates", Asked(polarity="+")),
        ("polarity_alternates", Asked(polarity="-")),
        ("levels_alternate", Asked(ms_level=1)),
        ("levels_alternate", Asked(ms_level=2)),
    ],
)
def test_the_spectra_that_are_asked_for(tmp_path, case: str, asked: Asked) -> None:
    bad = FILES[case](tmp_path)
    source = open_source(str(bad.path), asked=asked)
    second = asked.polarity == "-" or asked.ms_level == 2
    stored = bad.stored[int(second) :: 2]
    assert source.polarity == ("-" if asked.polarity == "-" else "+")
    y0, x0 = source.origin
    assert [(x + x0, y + y0) for y, x in source.positions] == [s[:2] for s in stored]
    read = source.read(np.arange(len(stored)))
    for (mz, values), (_, _, own_mz, own) in zip(read, stored, strict=True):
        np.testing.assert_array_equal(mz, own_mz)
        np.testing.assert_array_equal(values, own)
    assert any("6 of 12 spectra are read, the " in note for note in source.notes)


@pytest.mark.parametrize(
    ("case", "asked", "words"),
    [
        ("polarity_alternates", Asked(ms_level=2), "has no MS2 spectra: it holds 6 positive MS1"),
        ("levels_alternate", Asked(polarity="-"), "has no negative spectra: it holds 6 positive"),
        ("transitions", Asked(ms_level=2), "export each as an imzML of its own"),
    ],
)
def test_what_is_not_there_is_refused(tmp_path, case: str, asked: Asked, words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_source(str(FILES[case](tmp_path).path), asked=asked)


def test_polarity_in_a_group_of_the_spectrum(write) -> None:
    file = write()
    text = file.path.read_text("latin-1")
    group = text[text.index('<referenceableParamGroup id="spectrum1">') :]
    group = group[: group.index("</referenceableParamGroup>") + len("</referenceableParamGroup>")]
    other = group.replace("spectrum1", "spectrum2")
    other = other.replace("MS:1000129", "MS:1000130").replace("negative scan", "positive scan")
    parts = text.replace(group, group + other).split('ref="spectrum1"')
    refs = [f'ref="spectrum{1 + i % 2}"' for i in range(len(parts) - 1)] + [""]
    file.path.write_text("".join(a + b for a, b in zip(parts, refs, strict=True)), "latin-1")
    with pytest.raises(InputError, match="10 negative MS1 spectra, 10 positive MS1 spectra"):
        open_source(str(file.path))
    assert len(open_source(str(file.path), asked=Asked(polarity="+")).positions) == 10


def test_what_spectra_do_not_say() -> None:
    codes, notes = np.array([0, 0, 1]), list[str]()
    some = [Scan("+"), Scan()]
    found = choose("f", some, codes, Scan(), Asked(), notes)
    assert found.scan.polarity == "+" and found.mask.all()
    assert notes == ["some spectra do not say their polarity; taken as + as the rest"]
    notes.clear()
    found = choose("f", [Scan()], np.zeros(3, int), Scan(), Asked(polarity="-"), notes)
    assert found.scan.polarity == "-" and found.mask.all()
    assert notes == ["no spectrum says its polarity; taken as - as asked"]
    found = choose("f", some, codes, Scan("-"), Asked(polarity="-"), [])
    assert found.mask.tolist() == [False, False, True]
