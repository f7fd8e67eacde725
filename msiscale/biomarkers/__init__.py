"""Which m/z tell cancer from other tissue, and what lipids they may be."""

from __future__ import annotations

from msiscale.biomarkers.association import specimen_association
from msiscale.biomarkers.combination import biomarker_table, combine, tidy, without_say
from msiscale.biomarkers.identification import identify, isotope_of
from msiscale.biomarkers.lipids import builtin_lipids, read_lipids
from msiscale.biomarkers.masses import ADDUCTS, Adduct, formula_mass, ion_mz

__all__ = [
    "ADDUCTS",
    "Adduct",
    "biomarker_table",
    "builtin_lipids",
    "combine",
    "formula_mass",
    "identify",
    "ion_mz",
    "isotope_of",
    "read_lipids",
    "specimen_association",
    "tidy",
    "without_say",
]
