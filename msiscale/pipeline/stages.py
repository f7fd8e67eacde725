"""The one list of stages: their order, what each writes, and what its records are called.

Everything that must know the stages reads it here: the driver, the ledger's digests, `status`,
`verify`, `withdraw`, the report and the command line. A new stage is a module of its own and one
entry below. This module imports no stage: `Stage.function` does, when the stage runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

from msiscale.errors import InputError

COHORT = "cohort"  # the ledger's name of the record that is of no single specimen


@dataclass(frozen=True)
class Part:
    """One kind of record in the ledger, and what such records vouch for.

    Attributes
    ----------
    name
        Its folder in the ledger.
    owns
        Paths below the ``--out`` of the run, with all that lies below them. ``{}`` is a specimen:
        such a path goes with the specimen, any other with the cohort. ``*`` is any part of a name.
    version
        The next number whenever its results change, so that old ones are made anew.
    specimens, cohort
        Whether there is a record a specimen, and one of the cohort.
    stays
        More paths, which hold nothing of a specimen and so outlive its withdrawal.
    pooled
        What it writes of a specimen comes from the other specimens too.
    """

    name: str
    owns: tuple[str, ...] = ()
    version: int = 1
    specimens: bool = True
    cohort: bool = False
    stays: tuple[str, ...] = ()
    pooled: bool = False

    def of_specimen(self, name: str, *, whole: bool = False) -> list[str]:
        """The paths that go with a specimen; as a `whole`, with the groups that they lie in."""
        cut = (
            path.partition("{}/")[0] + "{}" if whole and "{}/" in path else path
            for path in self.owns
            if "{}" in path
        )
        return list(dict.fromkeys(path.format(name) for path in cut))

    @property
    def of_cohort(self) -> list[str]:
        """The paths that go with the cohort."""
        return [path for path in self.owns if "{}" not in path]

    def has(self, path: str) -> bool:
        """Whether a path below ``--out`` (a file, or an array) is one of its own."""
        return bool(self._own.match(path))

    @cached_property
    def _own(self) -> re.Pattern[str]:
        paths = (*self.owns, *self.stays)
        words = (re.escape(p).replace(r"\{\}", "[^/]+").replace(r"\*", "[^/]*") for p in paths)
        return re.compile(f"({'|'.join(words)})(/.*)?$" if paths else "(?!)")


@dataclass(frozen=True)
class Stage:
    """One step over the cohort.

    Attributes
    ----------
    name
        As the command line has it.
    help
        What it does, for the command line.
    run
        ``module:function`` in `msiscale.pipeline`, which takes the `Run`; None where a command of
        its own runs it on a finished run.
    parts
        Its records, in the order in which they are made.
    before
        Parts that must be done of a specimen before the stage can take it.
    gpu
        Its tasks go to workers with a GPU where there are some.
    asked_for
        Only its own command runs it.
    """

    name: str
    help: str
    run: str | None
    parts: tuple[Part, ...]
    before: tuple[str, ...] = ()
    gpu: bool = False
    asked_for: bool = False

    @property
    def chain(self) -> tuple[str, ...]:
        """Names of the stages on the way to it, itself among them, in their order."""
        names = {stage_of(part) for part in self.before} | {self.name}
        return tuple(stage.name for stage in STAGES if stage.name in names)

    @property
    def function(self) -> Callable[[Any], None]:
        """What runs it."""
        module, _, name = str(self.run).partition(":")
        found: Callable[[Any], None] = getattr(import_module(f"msiscale.pipeline.{module}"), name)
        return found


STAGES = (
    Stage(
        "ingest",
        "Read the MSI files onto one m/z axis, as one labelled Zarr cube for each specimen.",
        "ingest:ingest",
        (
            Part("peaks", ("state.zarr/{}/peaks",), version=6),
            Part("calibration", version=2),
            Part("recalibration", ("calibration.csv",), specimens=False, cohort=True),
            Part(
                "axis",
                ("state.zarr/axis/support",),
                specimens=False,
                cohort=True,
                stays=("state.zarr/axis/mz",),
                version=2,
            ),
            Part(
                "ingest",
                tuple(f"cohort.zarr/{{}}/{name}" for name in ("intensity", "norm", "mz", "y", "x")),
                version=2,
            ),
        ),
    ),
    Stage(
        "register",
        "Lay tissue, annotation and a preview of every slide onto the MSI grid.",
        "register:register",
        (
            Part(
                "register",
                (
                    *(
                        f"cohort.zarr/{{}}/{name}"
                        for name in ("tissue", "cancer", "preview", "yp", "xp", "deformation")
                    ),
                    "figures/placement_{}.png",
                ),
                version=2,
            ),
            Part("registration", ("registration.csv",), specimens=False, cohort=True),
        ),
        before=("peaks",),
    ),
    Stage(
        "features",
        "Extract features of every slide on the MSI grid.",
        "features:features",
        (
            Part("encoder", specimens=False, cohort=True),
            Part(
                "features",
                tuple(
                    f"cohort.zarr/{{}}/{name}"
                    for name in ("features", "group", "colour", "coverage")
                ),
                version=4,
            ),
        ),
        before=("peaks", "register"),
        gpu=True,
    ),
    Stage(
        "fit",
        "Fit PCA, ridge and logistic models, holding out one patient at a time.",
        "fit:fit",
        (
            Part("sums", ("state.zarr/{}/moments", "state.zarr/{}/background"), version=3),
            Part(
                "fit",
                (
                    "predictions.zarr/{}",
                    "state.zarr/folds",
                    "state.zarr/novelty",
                    "state.zarr/margins",
                    "state.zarr/protocols",
                    "model.zarr",
                    "metrics.csv",
                    "intervals.csv",
                    "comparisons.csv",
                    "patients.csv",
                    "reliability.csv",
                    "batch.csv",
                ),
                version=6,
                cohort=True,
                pooled=True,
            ),
        ),
        before=("ingest", "register", "features"),
    ),
    Stage(
        "robustness",
        "Fit again with misplaced slides and with meaningless annotations.",
        "robustness:robustness",
        (
            Part(
                "robustness",
                ("robustness.csv", "state.zarr/robustness"),
                specimens=False,
                cohort=True,
            ),
        ),
    ),
    Stage(
        "corrections",
        "Fit again with the MSI corrected between specimens, and report whether that helps.",
        "corrections:corrections",
        (
            Part(
                "corrections",
                ("corrections.csv", "state.zarr/corrections"),
                specimens=False,
                cohort=True,
            ),
        ),
    ),
    Stage(
        "biomarkers",
        "Compare every m/z with the annotation, and name the lipids, strongest first.",
        "biomarkers:biomarkers",
        (
            Part("association", ("association/{}.csv",), version=2),
            Part("strongest", ("state.zarr/strongest/{}",), pooled=True),
            Part(
                "biomarkers",
                ("biomarkers.csv", "biomarkers_by_specimen.csv", "figures/biomarker-*.png"),
                version=2,
                specimens=False,
                cohort=True,
            ),
        ),
        before=("ingest", "register"),
    ),
    Stage(
        "annotate",
        "Identify lipids with a false-discovery rate from decoys, by specimen and cohort.",
        "annotate:annotate",
        (
            Part("ions", ("state.zarr/ions",), specimens=False, cohort=True),
            Part("scores", ("state.zarr/{}/annotation",)),
            Part(
                "annotate",
                ("annotations.csv", "annotations_by_specimen.csv"),
                specimens=False,
                cohort=True,
            ),
        ),
        before=("ingest",),
        asked_for=True,
    ),
    Stage(
        "regions",
        "Outline predicted cancer, and list what lies outside the annotation.",
        "regions:regions",
        (
            Part(
                "regions",
                ("regions/{}.geojson", "regions/{}.csv", "secondary_regions.csv"),
                cohort=True,
                pooled=True,
            ),
        ),
        before=("register", "fit"),
    ),
    Stage(
        "ions",
        "Score the predicted image of every m/z in held-out pixels.",
        "ions:ions",
        (Part("by_ion", ("ions.csv",), version=2, specimens=False, cohort=True),),
        before=("ingest", "fit"),
    ),
    Stage(
        "report",
        "Draw the figures and write report.html.",
        "report:report",
        (
            Part(
                "figures",
                tuple(
                    f"figures/{kind}_{{}}.png"
                    for kind in (
                        *("figure1", "figure2", "ions", "ion_classes"),
                        *("biomarkers", "registration"),
                    )
                ),
                version=3,
                pooled=True,
            ),
            Part(
                "pages",
                # the last is of runs by older versions
                ("report/{}.html", "figures/thumbnail_{}.json", "figures/thumbnail_{}.jpg"),
                version=4,
                pooled=True,
            ),
            Part("report", ("report.html",), version=4, specimens=False, cohort=True),
        ),
    ),
    Stage(
        "place",
        "Write a page for each specimen, to place the MSI on its slide by hand in a browser.",
        None,
        (Part("place", ("place/{}.html", "place/index.html"), cohort=True),),
        before=("ingest",),
        asked_for=True,
    ),
    Stage(
        "fuse",
        "Sharpen the measured ion images of a run with its H&E, and score the result.",
        None,
        (
            Part("fusion_ions", ("state.zarr/{}/fusion/structure",)),
            Part(
                "fusion_inputs",
                tuple(
                    f"state.zarr/{{}}/fusion/{name}"
                    for name in ("ions", "variables", "pan", "pan_fine")
                ),
            ),
            Part(
                "fuse",
                (
                    *(f"state.zarr/{{}}/fusion/{name}" for name in ("fit", "x*", "scores")),
                    "figures/fusion_{}.png",
                ),
                version=2,
            ),
            Part("fusion", ("fusion.csv",), specimens=False, cohort=True),
            Part("fused", ("fusion.zarr/{}", "state.zarr/{}/fusion/consistency"), version=2),
        ),
        before=("peaks", "ingest", "register", "features"),
        gpu=True,
        asked_for=True,
    ),
    Stage(
        "ablate",
        "Show what each choice of the published study changes on this cohort, with a run for each.",
        None,
        (Part("switches", ("switches.csv", "switches"), specimens=False, cohort=True),),
        before=("fit",),
        asked_for=True,
    ),
    Stage(
        "rank",
        "Compare encoders on this cohort: the same folds and scores for each, beside baselines.",
        None,
        (Part("rank", ("rank.csv", "rank.html", "rank"), specimens=False, cohort=True),),
        before=("register",),
        asked_for=True,
    ),
    Stage(
        "power",
        "Estimate how many patients suffice: a learning curve, and the power to find biomarkers.",
        None,
        (Part("power", ("learning.csv", "power.csv"), specimens=False, cohort=True),),
        before=("fit",),
        asked_for=True,
    ),
)

PARTS = {part.name: part for stage in STAGES for part in stage.parts}
SPECIMEN_PARTS = tuple(part.name for part in PARTS.values() if part.specimens)


def stage_named(name: str) -> Stage:
    """The stage of a name. InputError where there is none."""
    for stage in STAGES:
        if stage.name == name:
            return stage
    known = ", ".join(stage.name for stage in STAGES)
    raise InputError(f"stage {name!r}: there is none of that name; use {known}")


def stage_of(part: str) -> str:
    """Name of the stage that makes a part; the part's own name where none does."""
    return next((s.name for s in STAGES for p in s.parts if p.name == part), part)


def owners(path: str) -> Iterator[Part]:
    """The parts that own a path below ``--out``."""
    return (part for part in PARTS.values() if part.has(path))
