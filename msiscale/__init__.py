"""msiscale: cohorts of paired mass-spectrometry images and H&E slides, at any size.

``import msiscale as ms``: `ms.open_msi`, `ms.open_slide`, `ms.extract_features`, `ms.regrid`;
`ms.Moments`, `ms.PCA`, `ms.Ridge`, `ms.LogisticRegression`, `ms.CsrRows`; `ms.run`, `ms.predict`,
`ms.predicted_intensity`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msiscale.csr import CsrRows
    from msiscale.features.extract import extract_features
    from msiscale.models import PCA, LogisticRegression, Moments, Ridge
    from msiscale.msi import open_msi
    from msiscale.pipeline import run
    from msiscale.pipeline.predict import predict
    from msiscale.prediction import predicted_intensity
    from msiscale.regridding import regrid
    from msiscale.slide import open_slide

__version__ = "0.1.0"

_HOME = {
    "open_msi": "msiscale.msi",
    "open_slide": "msiscale.slide",
    "extract_features": "msiscale.features.extract",
    "CsrRows": "msiscale.csr",
    "Moments": "msiscale.models",
    "PCA": "msiscale.models",
    "Ridge": "msiscale.models",
    "LogisticRegression": "msiscale.models",
    "run": "msiscale.pipeline",
    "predict": "msiscale.pipeline.predict",
    "predicted_intensity": "msiscale.prediction",
    "regrid": "msiscale.regridding",
}

__all__ = [
    "PCA",
    "CsrRows",
    "LogisticRegression",
    "Moments",
    "Ridge",
    "extract_features",
    "open_msi",
    "open_slide",
    "predict",
    "predicted_intensity",
    "regrid",
    "run",
]


def __getattr__(name: str) -> Any:
    # torch, scikit-learn and Dask take seconds to import; each waits until it is used
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'msiscale' has no attribute {name!r}")
