"""A few questions to a person at a terminal, in place of what files cannot say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from msiscale.cohort import pixel_size, positive
from msiscale.errors import InputError


@dataclass(frozen=True)
class Answers:
    """What was said: the folder, whether names tell patients, and cells and options that follow."""

    folder: str
    grouped: bool | None = None
    columns: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def ask(prompt: Callable[..., Any], confirm: Callable[..., bool]) -> Answers:
    """Ask for what a manifest needs.

    Parameters
    ----------
    prompt, confirm
        Of click: they show a text and give what was typed.

    Returns
    -------
    Answers

    Raises
    ------
    InputError
        An answer cannot be used.
    """
    folder = str(prompt("Folder of the MSI files, slides and annotations", default="."))
    grouped = confirm("Does the part of a name before its first _ name the patient?", default=True)
    columns: dict[str, str] = {}
    options: dict[str, Any] = {}
    checks: dict[str, tuple[str, Callable[[str, str | None], Any]]] = {
        "mpp": ("µm a slide pixel (Enter: as the files say; for example 0.25)", positive),
        "pixel_um": ("µm an MSI pixel (Enter: as the files say; for example 50)", pixel_size),
    }
    for column, (text, check) in checks.items():
        value = str(prompt(text, default="", show_default=False)).strip()
        if value:
            check("your answer", value)
            columns[column] = value
    text = "Polarity, + or - (Enter: as the files say)"
    polarity = str(prompt(text, default="", show_default=False)).strip()
    if polarity not in ("", "+", "-"):
        raise InputError(f"polarity {polarity!r}: is neither + nor -; give one of the two")
    if polarity:
        options["polarity"] = polarity
    text = "Annotated classes that are cancer, separated by commas (Enter: the usual names)"
    classes = str(prompt(text, default="", show_default=False))
    named = tuple(word.strip() for word in classes.split(",") if word.strip())
    if named:
        options["cancer_classes"] = named
    return Answers(folder, grouped, columns, options)
