"""Deep features of H&E slides on the MSI grid. Import its modules where they are used: most of
them load torch, which takes seconds and a client does without."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msiscale.config import RunConfig
    from msiscale.features.encoders import Encoder, Encoders

__all__ = ["encoder_of"]


def encoder_of(config: RunConfig) -> Encoder | Encoders:
    """The encoder, or encoders, of a run on this worker's device."""
    from msiscale.cluster import task_device
    from msiscale.encoder_names import MPP
    from msiscale.features.encoders import load_encoders

    return load_encoders(
        config.encoder_in_full,
        config.weights,
        device=task_device(),
        precision=config.precision,
        compiled=config.compile,
        mpp=config.mpp or MPP,
    )
