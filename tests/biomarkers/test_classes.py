"""The class of lipid in a name."""

from __future__ import annotations

import pytest

from msiscale.biomarkers.classes import CLASSES, builtin_lipids, class_of


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("PC 34:1 [M+H]+", "PC"),
        ("PC O-34:1 [M+H]+", "PC O-"),
        ("PE(P-36:2)", "PE P-"),
        ("SM 34:1;O2 [M+Na]+", "SM"),
        ("PC 34:1, PE 37:1 [M+H]+", "PC"),
        ("PG O-; PA", "PG"),
        ("Cholesterol", "Cholesterol"),
        ("", ""),
    ],
)
def test_the_class_stands_first(name: str, kind: str) -> None:
    assert class_of(name) == kind


def test_all_names_of_the_rules_tell_their_class() -> None:
    table = builtin_lipids()
    ether = table["name"].str.contains(" O-")
    found = table["name"].map(class_of)
    assert (found == table["lipid_class"] + ether.map({True: " O-", False: ""})).all()
    assert set(found) == {k.name + " O-" * k.ether for k in CLASSES}
