"""The XML half of an imzML: its header through pyimzML, its spectra through `SpectrumList`."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field, replace
from typing import IO, Any

import numpy as np
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from numpy.typing import NDArray
from pyimzml.metadata import XMLNS_PREFIX, Metadata

from msiscale.errors import NOTE, InputError
from msiscale.msi.asked import NOTHING, Asked
from msiscale.msi.pixel_size import Resolved, Term, X, Y, resolve
from msiscale.msi.places import Places
from msiscale.msi.scans import Scan, choose
from msiscale.msi.source import refuse_packed
from msiscale.msi.spectra import Ints
from msiscale.msi.spectrum_list import ArrayFormat, SpectrumList, xml_error
from msiscale.store import open_file

NAMELESS = (
    f"{NOTE}some terms have no accession; they were read by their names, where these are known"
)
# of an array: by name, or by accession
_MOBILITY = re.compile(
    "mobility|drift time|MS:100(2477|2816|2893|3006|3007|3008|3153|3154|3155)", re.IGNORECASE
)

# Words in the names of an instrument and its components; an ion trap beside one does not count.
ANALYSERS = {
    "orbitrap": re.compile(r"orbitrap|exactive|exploris", re.IGNORECASE),
    "ft-icr": re.compile(r"\bft\b|cyclotron|icr\b|solarix|scimax|apex", re.IGNORECASE),
    "tof": re.compile(r"tof\b|time-of-flight|flex\b|synapt", re.IGNORECASE),
}


@dataclass
class ImzmlHeader:
    """Everything that the .imzML says; nothing here was checked against the .ibd.

    Of n spectra, those of the kind that is asked for. ``xyz`` is (n, 3) int64 as written, z is 1
    where it is missing. ``terms`` are the accessions of the file content, of all parameter groups
    and of the first spectrum.
    """

    xyz: Ints
    mz: ArrayFormat
    intensity: ArrayFormat
    scan: Scan  #: what all spectra are
    part: bool  #: whether the file has others
    mobility: NDArray[np.bool_]  #: (n,) spectra of one ion mobility of several
    others: bool  #: whether there are arrays that are not read
    uuid: str | None
    terms: set[str]
    places: Places  #: of all spectra
    pixel: Resolved  #: its size
    analyser: str | None  #: one of `ANALYSERS`, where exactly one is named
    declared: tuple[int | None, int | None]  #: (y, x) count of pixels
    notes: list[str] = field(default_factory=list)


def read_header(path: str, asked: Asked = NOTHING) -> ImzmlHeader:
    """Read the .imzML at `path` (local or URL). Raises InputError, one line."""
    with open_file(path) as file:
        refuse_packed(path, file.read(8))
        file.seek(0)
        metadata, settings, notes, count = _metadata(path, file)
        file.seek(0)
        spectra = SpectrumList(path, metadata)
        spectra.parse(file)
    if not spectra.xyz:
        raise InputError(f"{path}: has no spectra; export the image again")
    if spectra.scientific:
        notes.append(f"{NOTE}integers in scientific notation (written by R) were read as integers")
    if spectra.nameless and NAMELESS not in notes:
        notes.append(NAMELESS)
    if any(_MOBILITY.search(name) for name in spectra.other_arrays):
        notes.append(
            f"{NOTE}ion mobility is not kept: the intensities of all mobilities are summed"
        )
    elif spectra.other_arrays:
        notes.append(f"{NOTE}arrays other than m/z and intensity are not read")
    content = metadata.file_description.param_by_accession
    uuid = content.get("IMS:1000080")
    groups = metadata.referenceable_param_groups.values()
    named = set[str]().union(*(group.param_by_accession for group in groups))
    whole = Scan.of(content, {})
    if not whole.polarity:
        whole = replace(whole, polarity=Scan.of(named, {}).polarity)
    chosen = choose(path, spectra.scans, spectra.codes, whole, asked, notes)
    mobility = np.array([scan.mobility for scan in spectra.scans])[spectra.codes]
    xyz = np.frombuffer(spectra.xyz, np.int64).reshape(-1, 3)
    places = Places.of(xyz[:, 1::-1])
    y, x = (_scan_setting(metadata, f"IMS:{number}") for number in (1000043, 1000042))
    if count is not None and count != len(xyz):
        notes.append(f"{count} spectra declared, {len(xyz)} found; those found are used")
    return ImzmlHeader(
        xyz=xyz[chosen.mask],
        mz=spectra.arrays("m/z", chosen.mask),
        intensity=spectra.arrays("intensity", chosen.mask),
        scan=chosen.scan,
        part=not chosen.mask.all(),
        mobility=mobility[chosen.mask],
        others=bool(spectra.other_arrays) or not chosen.mask.all(),
        uuid=str(uuid) if uuid else None,
        terms=spectra.first_terms.union(content, named),
        places=places,
        pixel=resolve(settings, places),
        analyser=_analyser(metadata),
        declared=(y, x),
        notes=notes,
    )


def _metadata(
    path: str, file: IO[bytes]
) -> tuple[Metadata, list[list[Term]], list[str], int | None]:
    """What is before the spectrum list; document types are refused."""
    root, count = None, None
    notes: list[str] = []
    try:
        for _, element in ElementTree.iterparse(file, events=("start",), forbid_dtd=True):
            root = element if root is None else root
            if element.tag.rpartition("}")[2] == "spectrumList":
                count = element.get("count")
                break
    except DefusedXmlException:
        raise InputError(
            f"{path}: the XML declares a document type or entities, which imzML never needs; "
            "remove the declaration"
        ) from None
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # also of its encoding
        raise xml_error(path, error) from None
    if root is None or root.tag.rpartition("}")[2] not in ("mzML", "indexedmzML"):
        raise InputError(f"{path}: is not imzML; give the .imzML of the image")
    for element in root.iter():  # some writers leave the namespace out; pyimzML needs it
        element.tag = XMLNS_PREFIX + element.tag.rpartition("}")[2]
        if element.tag == f"{XMLNS_PREFIX}cvParam" and ":" not in element.get("accession", ""):
            element.tag = f"{XMLNS_PREFIX}userParam"  # known by its name, then
            notes = [NAMELESS]
    root = root.find(f"{XMLNS_PREFIX}mzML") if root.tag.endswith("indexedmzML") else root
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            metadata = Metadata(root)
        except (AttributeError, TypeError, KeyError, ValueError):
            raise InputError(
                f"{path}: the imzML header is incomplete (fileDescription, "
                "referenceableParamGroupList); export the image again"
            ) from None
    # a file of somebody else that is collected meanwhile is none of the header's
    own = (w for w in caught if not issubclass(w.category, ResourceWarning))
    for text in sorted({str(warning.message) for warning in own}):
        # Other spellings of a scan setting's name, or none at all, mean nothing.
        if "IMS:" not in text and 'name ""' not in text:
            notes.append(f"header: {text}")
    return metadata, _settings(root), notes, int(count) if count and count.isdigit() else None


def _settings(root: Any) -> list[list[Term]]:
    """The terms of every scan settings element, those of its groups included, as written."""
    groups = {g.get("id"): _terms(g) for g in root.iter(f"{XMLNS_PREFIX}referenceableParamGroup")}
    found = []
    for element in root.iter(f"{XMLNS_PREFIX}scanSettings"):
        refs = element.iter(f"{XMLNS_PREFIX}referenceableParamGroupRef")
        found.append(
            [*_terms(element), *(t for ref in refs for t in groups.get(ref.get("ref"), ()))]
        )
    if any(t.accession in (X, Y) for terms in found for t in terms):
        return found
    known = [t for terms in found for t in terms]
    return [
        [*terms, *known] for terms in groups.values() if any(t.accession in (X, Y) for t in terms)
    ]


def _terms(element: Any) -> list[Term]:
    names = ("accession", "name", "value", "unitAccession", "unitName")
    return [
        Term(*((node.get(name) or "").strip() for name in names))
        for node in element.iter(f"{XMLNS_PREFIX}cvParam")
    ]


def _analyser(metadata: Metadata) -> str | None:
    """The mass analyser that the instrument configurations name, None where not exactly one."""
    parts = [p for c in metadata.instrument_configurations.values() for p in (c, *c.components)]
    names = " | ".join(f"{name} {value}" for p in parts for name, value in p.param_by_name.items())
    found = [kind for kind, words in ANALYSERS.items() if words.search(names)]
    return found[0] if len(found) == 1 else None


def _scan_setting(metadata: Metadata, accession: str) -> int | None:
    for settings in metadata.scan_settings.values():
        try:
            return int(float(settings.param_by_accession[accession]))
        except (KeyError, TypeError, ValueError):
            continue
    return None
