"""What the estimators share: NumPy and sparse input is checked as by scikit-learn, the rest stays
lazy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from msiscale.models.rowblocks import is_labelled, raw

DTYPES = (np.float64, np.float32)


class SparseTaker(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """An estimator that takes scipy sparse X, and tells scikit-learn so."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def checked_x(estimator: BaseEstimator, x: Any, *, reset: bool) -> Any:
    """`x` ready for blocks: through scikit-learn's checks (sparse as CSR), or lazy as it is."""
    if not is_labelled(x):
        return validate_data(estimator, x, accept_sparse="csr", dtype=DTYPES, reset=reset)
    if x.ndim < 2:
        raise ValueError(f"X is (..., variables), not {x.shape}")
    if reset:
        estimator.n_features_in_ = x.shape[-1]
        if hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
    elif x.shape[-1] != estimator.n_features_in_:
        name = type(estimator).__name__
        raise ValueError(
            f"X has {x.shape[-1]} features, but {name} is expecting"
            f" {estimator.n_features_in_} features as input"
        )
    return x


def checked_xy(
    estimator: BaseEstimator, x: Any, y: Any, *, multi_output: bool, y_numeric: bool
) -> tuple[Any, Any]:
    """`x` and `y` ready for blocks, as `checked_x`; sets the fitted number of variables."""
    if is_labelled(x) or is_labelled(y):
        y = y if is_labelled(y) else np.asarray(y)
        return checked_x(estimator, x, reset=True), y
    x, y = validate_data(
        estimator,
        x,
        y,
        accept_sparse="csr",
        dtype=DTYPES,
        multi_output=multi_output,
        y_numeric=y_numeric,
    )
    return x, y


def checked_weight(weight: Any, x: Any) -> Any:
    """Sample weights of the rows of `x`, not below zero, or None."""
    if weight is None or is_labelled(weight):
        return weight
    rows = raw(x).shape[:-1]
    values = np.asarray(weight, dtype=np.float64)
    if values.ndim == 0:
        values = np.full(rows, float(values))
    if values.shape != rows:
        raise ValueError(f"sample_weight has shape {values.shape}, expected {rows}")
    check_array(values.reshape(-1, 1), input_name="sample_weight")
    if (values < 0).any():
        raise ValueError("Negative values in data passed to sample_weight")
    if not values.any():
        raise ValueError("every sample_weight is zero: there is nothing to fit")
    return values
