"""Ions that were absent from training, predicted by their chemistry from ions that were there.

Lipids of one class are made and broken down together, so that their images are alike, the more so
the nearer their chains are. The image of a new ion is a combination of those of trained ions: the
weights are of a Gaussian process over ions whose kernel knows class, chain length, unsaturation and
adduct (Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, 2.2), about the mean of
the ions of its class.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msiscale.errors import InputError

Floats = NDArray[np.float64]

CARBONS, DOUBLE_BONDS = 3.0, 1.0  # lengths of the kernel: how far apart ions are still alike
OTHER_ADDUCT = 0.8  # likeness of two adducts of one lipid
NOISE = 0.1  # of an image's variance, that no other ion shares
_NAME = re.compile(
    r"^(?P<kind>[A-Za-z0-9]+)[ (](?P<link>[OP]-)?(?P<carbons>\d+):(?P<bonds>\d+)"
    r"(?P<rest>;O\d*)?\)?$"
)


@dataclass(frozen=True)
class Chemistry:
    """What the kernel knows of an ion.

    Attributes
    ----------
    kind : class of the lipid, its ether bond and hydroxyls among it: ``PC``, ``PC O-``, ``SM ;O2``
    carbons, double_bonds : of all chains together
    adduct : ``[M+H]+``
    """

    kind: str
    carbons: int
    double_bonds: int
    adduct: str = ""

    @classmethod
    def of(cls, identification: str) -> Chemistry:
        """From a name as ``ions.csv`` has it.

        Parameters
        ----------
        identification
            Species and adduct: ``PC 34:1 [M+H]+``, ``SM 34:1;O2 [M+Na]+``. Of several species
            (``PC 34:1; PE 37:1 [M+H]+``, the likeliest first) the first counts.

        Returns
        -------
        Chemistry

        Raises
        ------
        InputError
            The name is no species with its carbons and double bonds.
        """
        name, _, adduct = identification.strip().partition(" [")
        found = _NAME.match(name.split("; ")[0].strip())
        if found is None:
            raise InputError(
                f"{identification!r}: this is not a lipid species such as PC 34:1 [M+H]+; give its "
                "carbons and double bonds, which predict it from other ions"
            )
        kind = " ".join(filter(None, (found["kind"], found["link"], found["rest"])))
        bonds, carbons = int(found["bonds"]), int(found["carbons"])
        return cls(kind, carbons, bonds, f"[{adduct}" if adduct else "")


def likeness(a: Sequence[Chemistry], b: Sequence[Chemistry]) -> Floats:
    """The kernel over ions.

    Parameters
    ----------
    a, b
        Ions.

    Returns
    -------
    ndarray
        (a, b) float64, 0..1; 0 between classes.
    """
    same = np.array([[x.kind == y.kind for y in b] for x in a], float).reshape(len(a), len(b))
    carbons = np.array([[x.carbons - y.carbons for y in b] for x in a], float)
    bonds = np.array([[x.double_bonds - y.double_bonds for y in b] for x in a], float)
    adduct = np.array([[1 if x.adduct == y.adduct else OTHER_ADDUCT for y in b] for x in a], float)
    square = (carbons / CARBONS) ** 2 + (bonds / DOUBLE_BONDS) ** 2
    return np.asarray(same * adduct * np.exp(-square.reshape(same.shape) / 2))


def weights_of(new: Chemistry, trained: Sequence[Chemistry]) -> Floats:
    """How the image of a new ion is put together.

    Parameters
    ----------
    new
        An ion that was absent from training.
    trained
        The ions that are predicted, their images in units of their own standard deviations.

    Returns
    -------
    ndarray
        (trained,) float64, which add up to 1; 0 of ions of other classes.

    Raises
    ------
    InputError
        No trained ion is of its class.
    """
    own = [i for i, ion in enumerate(trained) if ion.kind == new.kind]
    if not own:
        kinds = ", ".join(sorted({ion.kind for ion in trained})) or "none"
        raise InputError(
            f"{new.kind} {new.carbons}:{new.double_bonds}: no trained ion is of this class; "
            f"the trained classes are {kinds}"
        )
    some = [trained[i] for i in own]
    kernel = likeness(some, some) + NOISE * np.eye(len(some))
    gain = np.linalg.solve(kernel, likeness([new], some)[0])
    found = np.zeros(len(trained))
    found[own] = gain + (1 - gain.sum()) / len(own)  # about the mean of the class
    return found


def absent_image(
    new: Chemistry, trained: Sequence[Chemistry], images: NDArray[np.floating]
) -> Floats:
    """Predict the image of an ion that was absent from training, up to its scale and offset.

    Parameters
    ----------
    new
        The ion.
    trained
        k ions.
    images
        (..., k) their images, as predicted. Each is taken in units of its standard deviation over
        what is given; one that does not vary counts for nothing.

    Returns
    -------
    ndarray
        (...) float64, of mean 0, in standard deviations of an ion of its class.

    Raises
    ------
    InputError
        No trained ion is of its class.
    """
    values = np.asarray(images, np.float64)
    axes = tuple(range(values.ndim - 1))
    sd = np.nanstd(values, axis=axes)
    size = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 0)
    weights = weights_of(new, trained) * size
    return np.asarray(((values - np.nanmean(values, axis=axes)) * weights).sum(axis=-1))
