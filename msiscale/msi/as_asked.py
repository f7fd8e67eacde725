"""An opened image made to what the user asks: one spectrum a pixel, its size, its polarity."""

from __future__ import annotations

import numpy as np

from msiscale.errors import NOTE, InputError
from msiscale.msi.asked import Asked
from msiscale.msi.duplicates import Merged, settle
from msiscale.msi.hdf5_source import IF_UM, Hdf5Source
from msiscale.msi.source import MsiSource
from msiscale.msi.spectra import regular, smooth


def as_asked(source: Hdf5Source, asked: Asked, *, looks_profile: bool) -> MsiSource:
    """Settle pixels that have several spectra, and take the size and the polarity that are asked.

    Parameters
    ----------
    source
        as it was opened; changed in place
    asked
        what the user asks
    looks_profile
        whether evenly spaced and smooth spectra are profile spectra, as the file does not say

    Returns
    -------
    MsiSource

    Raises
    ------
    InputError
        two spectra of a pixel differ, or the image is of another polarity
    """
    places = source.positions + np.array(source.origin)
    settled = settle(source, places, np.zeros(len(places), bool), asked)
    if settled.one_each:
        source.take(np.sort(settled.rows))
    if source.mz is not None:
        source.share_axis(source.mz, "mend it")
        if looks_profile and not source.profile and regular(source.mz):
            source.profile = all(smooth(intensity) for _, intensity in source.sample())
            if source.profile:
                source.notes.append(f"{NOTE}evenly spaced and smooth spectra; read as profile")
    if asked.pixel_um is not None or source.pixel_um is not None:
        source.notes = [note.removesuffix(IF_UM) for note in source.notes]
    source.resize(asked.pixel_um)
    if asked.polarity is not None:
        if source.polarity not in (None, asked.polarity):
            raise InputError(
                f"{source.path}: its polarity is {source.polarity}, not {asked.polarity}; correct "
                f"the manifest column polarity, for example {source.polarity}, or --polarity"
            )
        source.polarity = asked.polarity
    return source if settled.one_each else Merged.of(source, settled)
