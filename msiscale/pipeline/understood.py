"""What was understood of a specimen's files, for a person to compare with what they know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from msiscale.cohort import Specimen
from msiscale.config import RunConfig
from msiscale.grid import PixelSize
from msiscale.msi.source import MsiSource
from msiscale.pipeline.plausible import extent_mm, in_mm
from msiscale.slide.classes import roles
from msiscale.slide.outlines import Outline
from msiscale.slide.reader import Slide

_NOT_SAID = "not said"


@dataclass
class Understood:
    """What `check` found in the files of a specimen; of one that cannot be read, nothing.

    Attributes
    ----------
    specimen, patient : names
    msi : ``pixels`` measured, ``grid`` (y, x), ``pixel_um`` (y, x) and ``pixel_um_from``, ``mz``
        (lowest, highest) of ``mz_from``, ``spacing_mz`` (median), ``spectra`` (centroid or
        profile), ``polarity``, ``ms_level``, ``analyser``
    slide : ``pixels`` and ``mm`` (height, width), ``mpp`` (y, x, µm) and ``mpp_from``, ``levels``
    annotation : a ``class``, its ``mm2`` and what it ``counts`` as, each; None without a file
    registration : how it will be registered
    """

    specimen: str
    patient: str
    msi: dict[str, Any] = field(default_factory=dict)
    slide: dict[str, Any] = field(default_factory=dict)
    annotation: list[dict[str, Any]] | None = None
    registration: str = ""

    @classmethod
    def of(cls, specimen: Specimen, *, accepted: bool = False) -> Understood:
        """What the manifest alone says, before any file is read; `accepted`: by hand."""
        found = f"by the images{', accepted by hand' if accepted else ''}"
        how = next((c for c in ("landmarks", "matrix") if getattr(specimen, c)), found)
        return cls(specimen.name, specimen.patient, registration=how)

    def take_msi(self, source: MsiSource, specimen: Specimen) -> None:
        """Three of its spectra are read."""
        spectra = source.sample()
        mz = np.unique(spectra.mz) if source.mz is None else source.mz
        each = np.split(spectra.mz, spectra.start[1:-1])
        gaps = np.concatenate([np.diff(one) for one in each]) if each else np.zeros(0)
        size = source.pixel_um
        self.msi = {
            "pixels": len(source.positions),
            "grid": [int(n) for n in source.shape],
            "pixel_um": None if size is None else [float(size.y), float(size.x)],
            "pixel_um_from": "the manifest" if specimen.pixel_um else source.pixel_from,
            "mz_from": "three spectra" if source.mz is None else "all spectra",
            "mz": [float(mz[0]), float(mz[-1])] if len(mz) else None,
            "spacing_mz": float(np.median(gaps)) if len(gaps) else None,
            "spectra": "profile" if source.profile else "centroid",
            "polarity": source.polarity,
            "ms_level": source.ms_level,
            "analyser": source.analyser,
        }

    def take_slide(self, slide: Slide, specimen: Specimen) -> None:
        """Its size, at its finest level."""
        self.slide = {
            "pixels": [int(n) for n in slide.shape],
            "mm": [float(v) for v in extent_mm(slide.shape, slide.mpp)],
            "mpp": [float(slide.mpp.y), float(slide.mpp.x)],
            "mpp_from": "manifest" if specimen.mpp else "file",
            "levels": len(slide.levels),
        }

    def take_annotation(
        self, outlines: Sequence[Outline], mpp: PixelSize, config: RunConfig
    ) -> None:
        """The area of each class, and what it counts as."""
        found: dict[tuple[str, str], float] = {}
        kinds = roles(outlines, config.cancer_classes, config.exclude_classes)
        for outline, kind in zip(outlines, kinds, strict=True):
            key = outline.name or "", kind
            found[key] = found.get(key, 0.0) + outline.polygon.area * mpp.area * 1e-6
        self.annotation = [
            {"class": name, "mm2": round(area, 4), "counts": kind}
            for (name, kind), area in found.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """A paragraph for a person."""
        of = "" if self.patient == self.specimen else f" (patient {self.patient})"
        yield f"{self.specimen}{of}"
        if self.msi:
            yield f"  MSI: {', '.join(_msi_words(self.msi))}"
        if self.slide:
            size = in_mm((self.slide["mm"][0], self.slide["mm"][1]))
            mpp, origin, n = _side(self.slide["mpp"]), self.slide["mpp_from"], self.slide["levels"]
            levels = f"{n} level{'' if n == 1 else 's'}"
            yield f"  slide: {size} mm, {mpp} µm per pixel (from the {origin}), {levels}"
        if self.annotation is not None:
            areas = [f"{a['class'] or 'unnamed'} {a['mm2']:g} mm²: {a['counts']}" for a in
                     self.annotation]  # fmt: skip
            yield f"  annotation: {'; '.join(areas) or 'no outline, so no label'}"
        else:
            yield "  annotation: none"
        yield f"  registration: {self.registration}"


def _msi_words(msi: dict[str, Any]) -> Iterator[str]:
    height, width = msi["grid"]
    yield f"{msi['pixels']:,} pixels on {width} x {height}"
    if msi["pixel_um"] is None:
        yield "pixel size unknown"
    else:
        yield f"{_side(msi['pixel_um'])} µm each (from {msi['pixel_um_from']})"
    if msi["mz"] is not None:
        of = " (of three spectra)" if msi["mz_from"] == "three spectra" else ""
        yield "m/z {:.2f} to {:.2f}".format(*msi["mz"]) + of
    yield f"{msi['spectra']} spectra"
    if msi["spacing_mz"] is not None:
        yield f"median spacing {msi['spacing_mz']:.4g}"
    yield f"polarity {msi['polarity'] or _NOT_SAID}"
    yield f"MS{msi['ms_level']}" if msi["ms_level"] else f"MS level {_NOT_SAID}"


def _side(size: Sequence[float]) -> str:
    """A pixel, x by y where the two differ."""
    y, x = size
    return f"{x:.4g}" if x == y else f"{x:.4g} x {y:.4g}"
