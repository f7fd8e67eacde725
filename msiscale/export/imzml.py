"""Predicted MSI as imzML [1]_, continuous: one m/z axis, then a spectrum a pixel.

A continuous file has every spectrum at an offset that follows from its rank, so blocks are written
where they belong as they come, and the XML, which must hold the checksum of the .ibd, afterwards,
line by line. pyimzML's own writer keeps all spectra's entries in memory and has no pixel size.

.. [1] https://ms-imaging.org/imzml/
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from msiscale import __version__
from msiscale.export.files import made
from msiscale.export.source import ExportSpecimen, Opened
from msiscale.prediction.model import spectra
from msiscale.store import join

_PIECE = 1 << 22
_SPACE = uuid.UUID("8d6c1c1e-6a0d-5b7e-9d3f-2f1b9a1c7e55")  # of our names, for UUIDs


def export_imzml(opened: Opened, out: str) -> Iterator[str]:
    """Write ``out/<specimen>.imzML`` and ``.ibd`` of predicted spectra; yields URLs."""
    # of a run, by a model that saw nothing of the patient; in memory: spectra of 64 x 64 pixels
    for source in opened.sources:
        url = join(out, f"{source.name}.imzML")
        with made(join(out, f"{source.name}.ibd")) as ibd, made(url) as xml:
            _write(source, ibd, xml)
        yield url


def _write(source: ExportSpecimen, ibd: Path, xml: Path) -> None:
    stored, mz, known = source.predicted, source.predicted_mz, source.predicted_pixels()
    mean, components = stored.read("mean"), stored.read("components")
    scores = stored.array("predicted_scores")
    rank = np.cumsum(known.ravel()).reshape(known.shape) - 1
    content = hashlib.sha1(usedforsecurity=False)
    for array in (mz, mean, components, known):
        content.update(np.ascontiguousarray(array).tobytes())
    identity = uuid.uuid5(_SPACE, f"{source.name} {content.hexdigest()}")
    first = 16 + mz.nbytes
    with ibd.open("wb") as file:
        file.write(identity.bytes + mz.astype("<f8").tobytes())
        for cell in source.cells:
            here = known[cell.slices]
            if not here.any():
                continue
            values = spectra(np.asarray(scores[cell.slices], np.float32)[here], mean, components)
            rows = values.astype("<f4")
            # the known pixels of a row of the cell lie side by side in the file
            ends = np.cumsum(here.sum(axis=1))
            for y, end in enumerate(ends):
                begin = int(ends[y - 1]) if y else 0
                if end > begin:
                    at = int(rank[cell.slices][y][here[y]][0])
                    file.seek(first + at * 4 * len(mz))
                    file.write(rows[begin:end].tobytes())
    checksum = hashlib.sha1(usedforsecurity=False)
    with ibd.open("rb") as file:
        while piece := file.read(_PIECE):
            checksum.update(piece)
    with xml.open("w", encoding="utf-8", newline="\n") as text:
        text.writelines(_lines(source, known, len(mz), identity, checksum.hexdigest()))


def _cv(accession: str, name: str, value: str = "", unit: tuple[str, str] | None = None) -> str:
    said = ""
    if unit is not None:
        term, called = unit
        said = f' unitCvRef="{term[:2]}" unitAccession="{term}" unitName="{called}"'
    return (
        f'<cvParam cvRef="{accession.partition(":")[0]}" accession="{accession}" '
        f'name="{name}" value={quoteattr(value)}{said}/>\n'
    )


_MICROMETRE = ("UO:0000017", "micrometer")
_MZ = ("MS:1000040", "m/z")
_POLARITY = {"+": ("MS:1000130", "positive scan"), "-": ("MS:1000129", "negative scan")}


def _lines(
    source: ExportSpecimen, known: NDArray[np.bool_], k: int, identity: uuid.UUID, sha1: str
) -> Iterator[str]:
    """The XML, a line or a spectrum at a time."""
    n, (ny, nx), (um_y, um_x) = int(known.sum()), source.shape, source.pixel_um
    polarity = _cv(*_POLARITY[source.polarity]) if source.polarity in _POLARITY else ""
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    yield '<mzML xmlns="http://psi.hupo.org/ms/mzml" version="1.1">\n<cvList count="3">\n'
    for short, name, uri in (
        ("MS", "Proteomics Standards Initiative Mass Spectrometry Ontology", "psi-ms.obo"),
        ("UO", "Unit Ontology", "unit.obo"),
        ("IMS", "Imaging MS Ontology", "imagingMS.obo"),
    ):
        yield f'<cv id="{short}" fullName="{name}" URI="http://purl.obolibrary.org/obo/{uri}"/>\n'
    yield "</cvList>\n<fileDescription><fileContent>\n"
    yield _cv("MS:1000579", "MS1 spectrum") + _cv("MS:1000127", "centroid spectrum")
    yield _cv("IMS:1000030", "continuous")
    yield _cv("IMS:1000080", "universally unique identifier", f"{{{identity}}}")
    yield _cv("IMS:1000091", "ibd SHA-1", sha1)
    yield '<userParam name="content" value="intensities predicted from H&amp;E by msiscale"/>\n'
    yield f'<userParam name="slide" value={quoteattr(source.slide)}/>\n'
    yield '</fileContent></fileDescription>\n<referenceableParamGroupList count="3">\n'
    for name, kind, number in (
        ("mzArray", _cv("MS:1000514", "m/z array", "", _MZ), ("MS:1000523", "64-bit float")),
        ("intensityArray", _cv("MS:1000515", "intensity array"), ("MS:1000521", "32-bit float")),
    ):
        yield f'<referenceableParamGroup id="{name}">\n{kind}{_cv(*number)}'
        yield _cv("MS:1000576", "no compression") + _cv("IMS:1000101", "external data", "true")
        yield "</referenceableParamGroup>\n"
    yield '<referenceableParamGroup id="spectrum">\n' + _cv("MS:1000579", "MS1 spectrum")
    yield _cv("MS:1000511", "ms level", "1") + _cv("MS:1000127", "centroid spectrum") + polarity
    yield "</referenceableParamGroup>\n</referenceableParamGroupList>\n"
    yield f'<softwareList count="1"><software id="msiscale" version="{__version__}">\n'
    yield _cv("MS:1000799", "custom unreleased software tool", "msiscale")
    yield "</software></softwareList>\n"
    yield '<scanSettingsList count="1"><scanSettings id="scan">\n'
    yield _cv("IMS:1000401", "top down") + _cv("IMS:1000413", "flyback")
    yield _cv("IMS:1000480", "horizontal line scan") + _cv("IMS:1000491", "linescan left right")
    yield _cv("IMS:1000042", "max count of pixels x", str(nx))
    yield _cv("IMS:1000043", "max count of pixels y", str(ny))
    yield _cv("IMS:1000044", "max dimension x", repr(nx * um_x), _MICROMETRE)
    yield _cv("IMS:1000045", "max dimension y", repr(ny * um_y), _MICROMETRE)
    yield _cv("IMS:1000046", "pixel size (x)", repr(um_x), _MICROMETRE)
    yield _cv("IMS:1000047", "pixel size y", repr(um_y), _MICROMETRE)
    yield "</scanSettings></scanSettingsList>\n"
    yield '<instrumentConfigurationList count="1"><instrumentConfiguration id="IC"/>'
    yield '</instrumentConfigurationList>\n<dataProcessingList count="1">'
    yield '<dataProcessing id="predicted"><processingMethod order="0" softwareRef="msiscale">\n'
    yield _cv("MS:1000544", "Conversion to mzML")
    yield "</processingMethod></dataProcessing></dataProcessingList>\n"
    yield f'<run defaultInstrumentConfigurationRef="IC" id={quoteattr(source.name)}>\n'
    yield f'<spectrumList count="{n}" defaultDataProcessingRef="predicted">\n'
    entry, first = _template(k), 16 + 8 * k
    for i, (y, x) in enumerate(zip(*np.nonzero(known), strict=True)):
        yield entry.format(index=i, number=i + 1, x=x + 1, y=y + 1, offset=first + 4 * k * i)
    yield "</spectrumList>\n</run>\n</mzML>\n"


def _template(k: int) -> str:
    """The entry of a spectrum, for `str.format`; one is made a file, for there may be millions."""
    arrays = "".join(
        f'<binaryDataArray encodedLength="0"><referenceableParamGroupRef ref="{name}"/>\n'
        + _cv("IMS:1000102", "external offset", offset)
        + _cv("IMS:1000103", "external array length", str(k))
        + _cv("IMS:1000104", "external encoded length", str(size))
        + "<binary/></binaryDataArray>\n"
        for name, offset, size in (
            ("mzArray", "16", 8 * k),
            ("intensityArray", "{offset}", 4 * k),
        )
    )
    return (
        '<spectrum id="Scan={number}" defaultArrayLength="0" index="{index}">\n'
        '<referenceableParamGroupRef ref="spectrum"/>\n'
        '<scanList count="1">\n'
        + _cv("MS:1000795", "no combination")
        + "<scan>\n"
        + _cv("IMS:1000050", "position x", "{x}")
        + _cv("IMS:1000051", "position y", "{y}")
        + '</scan></scanList>\n<binaryDataArrayList count="2">\n'
        + arrays
        + "</binaryDataArrayList></spectrum>\n"
    )
