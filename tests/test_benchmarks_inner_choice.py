"""The benchmark's own choice of C is the package's where the modes are the same."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.inference.inner_choice import MODELS, MODES, _blocks, _chosen, _inner, _sums, drawn
from msiscale.models import fit_classifiers, fit_linear_folds, leave_one_group_out


def test_with_the_modes_of_the_fold_the_choice_is_that_of_the_package() -> None:
    rows = drawn(4, 0)
    patients = {s: s for s in rows}
    folds = leave_one_group_out(patients)
    models = fit_linear_folds(_sums(rows), folds, patients, n_components=MODES)
    for name in MODELS:
        blocks = _blocks(rows, name)
        maps = {name: {m.fold.name: (m.maps or {})[name] for m in models}}
        found = fit_classifiers(blocks, maps, folds, patients)
        for model, inner in zip(models, _inner(models), strict=True):
            as_they_are = [replace(model, fold=fold) for fold in inner]
            assert _chosen(blocks, name, as_they_are) == found[name, model.fold.name].C
