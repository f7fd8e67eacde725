"""Spectra read by a template are those that expat reads, whatever varies between them."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msiscale.errors import InputError
from msiscale.msi import spectrum_list
from msiscale.msi.header import read_header
from msiscale.msi.spectrum_list import SpectrumList
from msiscale.msi.template import Template


class NoGroups:
    def __init__(self) -> None:
        self.referenceable_param_groups: dict[str, object] = {}


def cv(accession: str, value: object = "") -> str:
    return f'<cvParam cvRef="IMS" accession="{accession}" name="n" value="{value}"/>'


def array_text(term: str, offset: object, length: object, encoded: object | None) -> str:
    parts = [cv("MS:1000523"), cv(term), cv("IMS:1000102", offset), cv("IMS:1000103", length)]
    if encoded is not None:
        parts.append(cv("IMS:1000104", encoded))
    return f'<binaryDataArray encodedLength="0">{"".join(parts)}<binary/></binaryDataArray>'


numbers = st.one_of(st.integers(0, 2**40).map(str), st.sampled_from(["1e3", " 7", "-2", "+4"]))


@st.composite
def spectra(draw: st.DrawFn) -> str:
    z = draw(st.sampled_from([cv("IMS:1000052", 1), "", cv("IMS:1000052", "3")]))
    extra = draw(
        st.sampled_from(
            ["", "<!-- <spectrum id='no'> </spectrum> -->", '<userParam name="a" value="&lt;"/>']
        )
    )
    encoded = draw(st.one_of(st.none(), numbers))
    both = [
        array_text("MS:1000514", draw(numbers), draw(numbers), encoded),
        array_text("MS:1000515", draw(numbers), draw(numbers), encoded),
    ]
    if draw(st.booleans()):
        both.reverse()
    if draw(st.integers(0, 5)) == 0:
        both.append(array_text("MS:1002893", 3, 4, 5))
    name = draw(st.sampled_from(["a", "b c", "&amp;", "é", ">"]))
    gap = draw(st.sampled_from(["\n", "", "\r\n   ", "<!-- between -->"]))
    x, y = draw(numbers), draw(numbers)
    position = cv("IMS:1000050", x) + cv("IMS:1000051", y) + z
    return f'<spectrum id="{name}" index="0">{extra}{position}{"".join(both)}</spectrum>{gap}'


def read(text: bytes) -> object:
    found = SpectrumList("f", NoGroups())
    try:
        found.parse(io.BytesIO(text))
    except InputError as error:
        return str(error)
    extents = {kind: list(values) for kind, values in found._extents.items()}
    what = list(found._codes), found.scans, found._formats
    flags = found.scientific, found.nameless, found.other_arrays, found.first_terms
    return list(found.xyz), extents, what, flags


def by_expat(text: bytes, patch: pytest.MonkeyPatch) -> object:
    patch.setattr(Template, "of", lambda *_: None)
    return read(text)


@settings(max_examples=150, deadline=None)
@given(st.lists(spectra(), max_size=8), st.integers(1, 4), st.integers(40, 4000), st.booleans())
def test_the_same_as_expat(parts: list[str], times: int, block: int, cut: bool) -> None:
    text = f"<run><!-- <spectrum x --><spectrumList>{''.join(parts) * times}</spectrumList></run>"
    data = text.encode()[: -len(text) // 3] if cut else text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spectrum_list, "_READ", block)
        fast = read(data)
        assert fast == by_expat(data, patch)


@settings(max_examples=150, deadline=None)
@given(spectra(), st.data())
def test_a_byte_changed_changes_nothing_unseen(part: str, data: st.DataObject) -> None:
    text = bytearray(f"<run><spectrumList>{part * 5}</spectrumList></run>".encode())
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] = data.draw(st.integers(0, 255))
    with pytest.MonkeyPatch.context() as patch:
        fast = read(bytes(text))
        assert fast == by_expat(bytes(text), patch)


def test_templates_are_used() -> None:
    part = array_text("MS:1000514", 1, 2, 3) + array_text("MS:1000515", 4, 5, 6)
    text = f'<spectrum id="1">{cv("IMS:1000051", 8)}{cv("IMS:1000050", 7)}{part}</spectrum>'
    template = Template.of(text.encode(), ["m/z", "intensity"], (0, 0, 0))
    assert template is not None
    found, end = template.match((text * 3).encode(), 0)
    assert end == 3 * len(text)
    np.testing.assert_array_equal(found[:, template.xyz], [[7, 8, 1]] * 3)
    np.testing.assert_array_equal(found[:, template.extents["intensity"]], [[4, 5, 6]] * 3)


def test_real_files(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sorted(shared_data.glob("imzml/*/*.[iI]mz*"))
    fast = [header(path) for path in paths]
    monkeypatch.setattr(Template, "of", lambda *_: None)
    assert fast == [header(path) for path in paths]


def header(path: Path) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = read_header(str(path))
        except InputError as error:
            return str(error)
    arrays = [
        (a.dtypes, a.zlib, a.offset.tolist(), a.length.tolist(), a.encoded.tolist())
        for a in (found.mz, found.intensity)
    ]
    return found.xyz.tolist(), arrays, found.terms, found.notes
