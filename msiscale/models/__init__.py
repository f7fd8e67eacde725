"""Linear models of arrays that need not fit in memory; no data files are read here."""

from __future__ import annotations

from msiscale.models.classification import Classifier, fit_classifiers
from msiscale.models.fold_model import Basis, FoldModel
from msiscale.models.folds import Fold, final_fold, inner_groups, leave_one_group_out
from msiscale.models.fourier import FourierMap, RandomFourier
from msiscale.models.fourier_folds import fit_fourier_folds
from msiscale.models.joint import LinearMap, Problem, Solution, fit_many
from msiscale.models.logistic import LogisticRegression
from msiscale.models.metrics import classification_metrics, classification_records
from msiscale.models.moments import Moments, moments, moments_of_blocks
from msiscale.models.passes import RowBlock
from msiscale.models.pca import PCA
from msiscale.models.r2 import R2, r2_from_moments
from msiscale.models.ridge import Ridge, RidgePath
from msiscale.models.spread import Spread
from msiscale.models.validation import fit_linear_folds

__all__ = [
    "PCA",
    "R2",
    "Basis",
    "Classifier",
    "Fold",
    "FoldModel",
    "FourierMap",
    "LinearMap",
    "LogisticRegression",
    "Moments",
    "Problem",
    "RandomFourier",
    "Ridge",
    "RidgePath",
    "RowBlock",
    "Solution",
    "Spread",
    "classification_metrics",
    "classification_records",
    "final_fold",
    "fit_classifiers",
    "fit_fourier_folds",
    "fit_linear_folds",
    "fit_many",
    "inner_groups",
    "leave_one_group_out",
    "moments",
    "moments_of_blocks",
    "r2_from_moments",
]
