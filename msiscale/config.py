"""The choices of a run: defaults, a TOML file, and the command line over both.

A field of `RunConfig` says all that there is to say of an option. The command line, the schema of
config files, the checks and the table in docs/cli.md are made from it.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

from msiscale.encoder_names import in_full
from msiscale.errors import InputError

# Working pixels of a forward pass, as large as 4 GiB a worker allow with the largest encoder here.
WINDOWS = {"float32": 2432, "tf32": 2432, "bfloat16": 3200, "float16": 3200}
BANDED_WINDOW = 3200  # of a ResNet, which needs less memory (`msiscale.features.banded`)
TILE = 2048  # of the published study
WHOLE = ("resnet50:layer3", "resnet50:layer4", "efficientnet-lite0")  # networks that may see tiles
PROTOCOLS = ("leave_one_patient_out", "spatial_blocks", "pixel_folds")
CORRECTIONS = ("background", "quantile", "combat")


class Check(NamedTuple):
    """What must hold of a value, and what is said where it does not."""

    holds: Callable[[Any], bool]
    remedy: str


@dataclass(frozen=True)
class Option:
    """A field of `RunConfig` with what its metadata say."""

    name: str
    kind: Any  # without the None of what need not be given
    default: Any
    help: str  # a phrase without a full stop
    section: str  # its heading in help and docs
    stages: tuple[str, ...]  # that use it
    unit: str | None = None
    check: Check | None = None  # of all but None
    unset: str = "none"  # what is the case where the default is None, or says too little
    spelled: str | None = None  # on the command line, where that is not the name
    metavar: str | None = None
    bare: str | None = None  # what its word alone stands for

    @property
    def flag(self) -> str:
        """Its word on the command line."""
        return self.spelled or f"--{self.name.replace('_', '-')}"

    @property
    def sentence(self) -> str:
        """Its help with unit and default."""
        values = self.default if isinstance(self.default, tuple) else (self.default,)
        given = ",".join(f"{v:g}" if type(v) is float else str(v) for v in values)
        usual = self.unset if given in ("None", "False", "") else given
        return f"{self.help}{f', in {self.unit}' if self.unit else ''} (default: {usual})."


def option(default: Any, help: str, unit: str | None = None, **metadata: Any) -> Any:
    """A field with the rest of its `Option`."""
    return field(default=default, metadata={"help": help, "unit": unit, **metadata})


_msi = partial(option, section="MSI", stages=("ingest",))
_place = partial(option, section="Registration", stages=("register",))
_slide = partial(option, section="Slide and encoder", stages=("features",))
_label = partial(option, section="Labels", stages=("register",))
_model = partial(option, section="Models", stages=("fit", "robustness"))
_valid = partial(option, section="Validation", stages=("robustness",))
_ion = partial(option, section="Biomarkers", stages=("biomarkers", "annotate"))
_lipid = partial(option, section="Lipids with a false-discovery rate", stages=("annotate",))
_region = partial(option, section="Regions of predicted cancer", stages=("regions",))

_POSITIVE = Check(lambda v: 0 < v < 1e6, "give a positive number")
_FRACTION = Check(lambda v: 0 <= v <= 1, "give one from 0 to 1")
_COUNT = Check(lambda v: v >= 1, "give 1 or more")
_ZERO_OR_MORE = Check(lambda v: v >= 0, "give none below zero")
_THREE = Check(lambda v: len(v) == 3 and min(v) > 0, "give three numbers, of R, G and B")
_POSITIVES = Check(lambda v: min(v, default=0) > 0, "give one or more positive numbers")


MOST_FOURIER = 4096  # features: sums of their products are as large as those of 4,096 m/z


def fourier_features(head: str) -> int:
    """How many random Fourier features a ``head`` of ``rff:N`` has; 0 of any other."""
    kind, _, count = head.partition(":")
    known = kind == "rff" and re.fullmatch("[0-9]{1,4}", count) is not None
    return int(count) if known and int(count) <= MOST_FOURIER else 0


@dataclass(frozen=True)
class RunConfig:
    """Everything that changes a result, and nothing that does not (workers, progress, paths)."""

    normalise: Literal["none", "tic", "rms", "median", "reference"] = _msi(
        "tic", "Intensity normalisation applied to each spectrum"
    )
    reference_mz: tuple[float, ...] | None = _msi(
        None,
        "Reference ions (m/z), by whose summed intensity --normalise reference divides",
        check=_POSITIVES,
    )
    transform: Literal["none", "log", "sqrt"] = _msi(
        "none", "Transform applied to the normalised intensities"
    )
    recalibrate: str | None = _msi(
        None,
        "Known ions used to correct the m/z of each specimen: a CSV file, or builtin: followed by "
        "lipids, dhb, chca or 9aa",
        metavar="FILE|builtin:NAME",
    )
    recalibrate_ppm: float = _msi(
        50.0, "Largest mass error that recalibration can correct", "ppm", check=_POSITIVE
    )
    tolerance_ppm: float | Literal["auto"] = _msi(
        "auto",
        "Half-width of the window around each peak in ppm; auto measures the scatter of the peaks",
        check=Check(lambda v: v == "auto" or 0 < v < 1e6, "give auto or a positive number"),
        metavar="auto|PPM",
    )
    axis: str | None = _msi(
        None,
        "Axis of m/z to use: a CSV file of m/z, even steps as ppm:LO:HI:STEP, or the axis of "
        "another run (its --out)",
        unset="the peaks found in the cohort",
        metavar="FILE|ppm:LO:HI:STEP|RUN",
    )
    min_frequency: float = _msi(
        0.01,
        "Smallest fraction of a specimen's pixels in which a peak must occur to be kept",
        check=_FRACTION,
    )
    snr: float = _msi(
        3.0, "Smallest signal-to-noise ratio of a peak in the summed spectrum", check=_ZERO_OR_MORE
    )
    duplicates: Literal["refuse", "first", "mean"] = _msi(
        "refuse",
        "Treatment of a pixel that has several different spectra: refuse the file, use the first "
        "spectrum, or use their mean",
    )
    registration: Literal["given", "auto"] = _place(
        "given",
        "Source of the registration: the manifest where it gives one (given), or always the "
        "images (auto)",
    )
    accept: tuple[str, ...] = _place(
        (),
        "Specimens whose refused automatic registration is accepted, because its figure shows that "
        "it is right",
        metavar="SPECIMEN,…",
    )
    refine: Literal["none", "bspline"] = _place(
        "none",
        "Deformation beyond the affine map, found from the images; where it is clear, features,"
        " tissue and labels follow it",
    )
    tissue: Literal["found", "all"] = _place(
        "found",
        "Pixels that are analysed: those on tissue (found), or all that lie on the slide, "
        "background included (all; as the published study does)",
    )
    encoder: str = _slide(
        "stains,efficientnet-lite0:all",
        "Features computed from the slide: stains, resnet50:layer3, efficientnet-lite0, some "
        "layers of a network (efficientnet-lite0:stem+b2+b4, resnet50:all), a pathology encoder by "
        "name (see msiscale encoders), timm:NAME, own:MODULE:FUNCTION, or several separated by "
        "commas",
    )
    weights: str | None = _slide(
        None, "Weights loaded into the encoder", unset="ImageNet", metavar="NAME|FILE|random:SEED"
    )
    tokens: Literal["patch", "class", "class+mean"] | None = _slide(
        None,
        "Output of a vision transformer: a token for each patch, or for each tile its class token, "
        "alone or with the mean of its patch tokens",
        unset="patch",
    )
    mean: tuple[float, ...] | None = _slide(
        None,
        "Mean of red, green and blue (0 to 1) with which a timm: encoder was trained",
        unset="the preset's, or that of config.json beside the weights",
        check=_THREE,
    )
    std: tuple[float, ...] | None = _slide(
        None,
        "Standard deviation of red, green and blue (0 to 1), as for --mean",
        unset="the preset's, or that of config.json beside the weights",
        check=_THREE,
    )
    compile: bool = _slide(
        False,
        "Compile the encoder with torch.compile, which is faster on GPUs but takes each worker a "
        "minute",
        unset="no",
    )
    mpp: float | None = _slide(
        None,
        "Resolution at which the encoder sees the slide",
        "µm per pixel",
        unset="0.5, or that of the coarsest slide where it is larger",
        check=_POSITIVE,
    )
    window: int | None = _slide(
        None,
        "Side of the part of the slide that passes through the encoder in one go, without halo",
        "slide pixels",
        unset="what fits into 4 GiB for each worker",
        check=Check(lambda v: v > 0 and v % 64 == 0, "give a multiple of 64 pixels, 64 or more"),
    )
    precision: Literal["float32", "bfloat16", "tf32", "float16"] = _slide(
        "float32", "Floating-point precision of the encoder"
    )
    feature_mode: Literal["dense", "centred", "tiles"] = _slide(
        "dense",
        "Where features are computed: over the whole slide (dense), in one tile around each MSI "
        "pixel (centred; as HEST-Bench does), or in separate tiles (tiles; as the published study "
        "does)",
    )
    cancer_classes: tuple[str, ...] | None = _label(
        None,
        "Annotation classes that count as cancer, separated by commas",
        unset="the usual names",
        spelled="--cancer-class",
    )
    exclude_classes: tuple[str, ...] | None = _label(
        None,
        "Annotation classes whose pixels are left out as unknown, separated by commas",
        spelled="--exclude-class",
    )
    labels: Literal["fraction", "hard"] = _model(
        "fraction",
        "Target of the classifiers: the annotated fraction of each pixel (fraction), or 1 where "
        "that fraction is at least 0.5 and 0 elsewhere (hard; as the published study does)",
    )
    min_coverage: float = _model(
        0.5, "Smallest fraction of an MSI pixel that the slide must cover", check=_FRACTION
    )
    components: int = _model(200, "Largest number of PCA modes of the MSI", check=_COUNT)
    head: str = _model(
        "linear",
        "Model that predicts from H&E features: linear, or linear plus N random Fourier features, "
        "which can fit curves but need one more reading of all pixels for each fold",
        check=Check(
            lambda v: v == "linear" or fourier_features(v) > 0, "give linear, or rff:N, as rff:512"
        ),
        metavar="linear|rff:N",
    )
    alphas: tuple[float, ...] = _model(
        (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3),
        "Candidate penalties of the ridge regression, refined between neighbours; 0 is no penalty",
        check=Check(lambda v: min(v, default=-1) >= 0, "give one or more, none below zero"),
    )
    costs: tuple[float, ...] = _model(
        (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        "Candidate values of C for the logistic regressions",
        check=_POSITIVES,
    )
    pca: Literal["training", "all", "incremental", "quarter"] = _model(
        "training",
        "Spectra to which the PCA is fitted: those of each fold's training patients (training), "
        "or those of all patients: together (all), in batches of 200 (incremental), or only every "
        "second row and column (quarter; as the published study does)",
    )
    scaler: Literal["floored", "standard"] = _model(
        "floored",
        "Divisor of features and predicted modes: the standard deviation in training with a floor "
        "(floored) or without one (standard; as the published study does)",
    )
    scaling: Literal["training", "own"] = _model(
        "training",
        "Rows whose mean and standard deviation scale the held-out rows: those of training, or "
        "the held-out rows themselves (own; as the published study does)",
    )
    calibrate: Literal["patients", "prior", "none"] = _model(
        "patients",
        "Calibration of scores into probabilities: learned on left-out training patients "
        "(patients), for the class weights alone (prior), or none (as the published study does)",
    )
    average: Literal["pooled", "folds"] = _valid(
        "pooled",
        "Summary of cancer scores over specimens: over all held-out pixels together (pooled), or "
        "the mean over folds (folds; as the published study does)",
        stages=("fit",),
    )
    protocols: tuple[str, ...] = _valid(
        PROTOCOLS,
        "Validation protocols, separated by commas; the first gives the headline",
        stages=("fit",),
        check=Check(lambda v: {*v} <= {*PROTOCOLS}, f"use {', '.join(PROTOCOLS)}"),
    )
    folds: str = _valid(
        "auto",
        "How patients are held out: one at a time (patients) or in N groups; auto uses groups "
        "when there are many patients",
        stages=("fit", "robustness"),
        check=Check(
            lambda v: v in ("auto", "patients") or (v.isdecimal() and int(v) > 2),
            "give auto, patients, or a number of groups, 3 or more",
        ),
        metavar="auto|patients|N",
    )
    jitter: tuple[float, ...] = _valid(
        (),
        "Distances by which further fits misplace the slide, to show how much registration "
        "matters (--jitter alone: 0,0.5,1,2)",
        "MSI pixels",
        check=Check(lambda v: min(v, default=0) >= 0, "give none below zero"),
        metavar="[PX,…]",
        bare="0,0.5,1,2",
    )
    null: int = _valid(
        0,
        "Number of further fits with a moved annotation, to show what chance gives",
        check=_ZERO_OR_MORE,
    )
    correct: tuple[str, ...] = _valid(
        (),
        "Corrections between specimens to try, each compared with a fit without it: background, "
        "quantile, combat, or several separated by commas (--correct alone: all)",
        stages=("corrections",),
        check=Check(lambda v: {*v} <= {*CORRECTIONS}, f"use {', '.join(CORRECTIONS)}"),
        metavar="[NAME,…]",
        bare=",".join(CORRECTIONS),
    )
    lipids: str | None = _ion(
        None,
        "Lipid table downloaded from LIPID MAPS, as CSV, TSV or SDF",
        unset="a built-in table",
        metavar="FILE",
    )
    polarity: Literal["+", "-"] | None = _ion(
        None,
        "Polarity of the spectra to read and of the lipid ions to name",
        stages=("ingest", "biomarkers", "annotate"),
        unset="as the files say",
    )
    adducts: tuple[str, ...] | None = _ion(
        None,
        "Adducts used to name lipids, such as [M+H]+,[M+Na]+",
        unset="the usual ones for the polarity",
    )
    annotation_ppm: float = _ion(5.0, "Largest mass error of a lipid match", "ppm", check=_POSITIVE)
    shifts: int = _ion(
        500,
        "Number of moved copies of the annotation, to show what chance gives; 0 for none",
        stages=("biomarkers",),
        check=Check(lambda v: v == 0 or v >= 100, "give 100 or more, or 0 for none"),
    )
    min_pixels: float = _ion(
        20.0,
        "Smallest area of cancer, and of other tissue, that a specimen needs to count",
        "MSI pixels",
        stages=("biomarkers",),
        check=_ZERO_OR_MORE,
    )
    decoys: int = _lipid(
        20,
        "Number of implausible adducts used as decoys for each formula",
        check=Check(lambda v: 1 <= v <= 80, "give 1 to 80"),
    )
    matrix_ions: str | None = _lipid(
        None,
        "Ions of the MALDI matrix to mark in the results: a CSV or TSV file with a column mz",
        metavar="FILE",
    )
    analyser: Literal["orbitrap", "ft-icr", "tof"] | None = _lipid(
        None,
        "Mass analyser, whose resolving power falls with the square root of m/z (orbitrap), with "
        "m/z (ft-icr) or not at all (tof)",
        unset="as the files say, else orbitrap",
    )
    resolving_power: float | None = _lipid(
        None,
        "Resolving power at m/z 200",
        unset="140000 for an Orbitrap, 400000 for an FT-ICR, 30000 for a TOF",
        check=Check(lambda v: 1e3 <= v < 1e8, "give m/z over peak width"),
    )
    region_probability: float | None = _region(
        None,
        "Smallest probability, averaged over the models, of a pixel in a region of predicted "
        "cancer",
        unset="the thresholds chosen on the training patients",
        check=Check(lambda v: 0 < v < 1, "give one between 0 and 1"),
    )
    region_um2: float = _region(
        20_000.0, "Smallest area of a region of predicted cancer", "µm²", check=_ZERO_OR_MORE
    )
    block: int = option(
        64,
        "Side of the blocks in which images are processed and stored (it changes no result)",
        "MSI pixels",
        section="Layout",
        stages=("ingest", "features"),
        check=_COUNT,
    )

    def __post_init__(self) -> None:
        for name, own in OPTIONS.items():
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, float) and not math.isfinite(number):
                    raise InputError(f"option {name} = {value!r}: give finite numbers")
            if own.check and value is not None and not own.check.holds(value):
                raise InputError(f"option {name} = {value!r}: {own.check.remedy}")
        if (self.mean is None) != (self.std is None):
            raise InputError("option mean and option std go together; give both")
        if (self.normalise == "reference") != bool(self.reference_mz):
            raise InputError(
                "option normalise = 'reference' and option reference_mz go together; give both"
            )

        if self.head != "linear" and self.scaling == "own":
            raise InputError(
                f"option head = {self.head!r}: option scaling = 'own' needs linear maps; give head"
                " linear, or scaling training"
            )
        if self.feature_mode == "tiles" and self.encoder not in WHOLE:
            raise InputError(
                f"option feature_mode = 'tiles': the published study's tiles need one whole "
                f"network; give encoder, one of {', '.join(WHOLE)}, in place of {self.encoder}"
            )

    @property
    def encoder_in_full(self) -> str:
        """The name of the encoder with its tokens and normalisation, as in stores and models."""
        return in_full(self.encoder, self.tokens, self.mean, self.std)

    @property
    def fourier(self) -> int:
        """Random Fourier features of the head; 0 for linear maps."""
        return fourier_features(self.head)

    @property
    def pixels_a_window(self) -> int:
        """Side of a forward pass without its halo, in working pixels."""
        tiles = self.feature_mode == "tiles"
        return self.window or (TILE if tiles else default_window(self.encoder, self.precision))

    def part(self, *names: str) -> dict[str, Any]:
        """Some of the choices, for the digest of a stage."""
        return {name: getattr(self, name) for name in names}


def _without_none(kind: Any) -> Any:
    if not is_union(kind):
        return kind
    inner = tuple(k for k in typing.get_args(kind) if k is not type(None))
    return inner[0] if len(inner) == 1 else kind


def is_union(kind: Any) -> bool:
    """Whether a value may be of one kind or of another, as a number or a word."""
    return typing.get_origin(kind) in (types.UnionType, typing.Union)


_KINDS = typing.get_type_hints(RunConfig)
OPTIONS = {
    f.name: Option(f.name, _without_none(_KINDS[f.name]), f.default, **f.metadata)
    for f in dataclasses.fields(RunConfig)
}


def default_window(encoder: str, precision: str) -> int:
    """Slide pixels on the side of a window, such that a worker stays below 4 GiB."""
    each = (
        BANDED_WINDOW if e.startswith("resnet50") else WINDOWS[precision]
        for e in encoder.split(",")
    )
    return min(each)


# Choices of the published study (Ul Haque et al. 2023, as coded). The swapped AUC is in every
# metrics.csv.
SWITCHES: dict[str, dict[str, Any]] = {
    "raw_intensities": {"normalise": "none"},
    "background_kept": {"tissue": "all"},
    "tiles_without_context": {"feature_mode": "tiles"},
    "pca_of_all": {"pca": "all"},
    "pca_incremental": {"pca": "incremental"},
    "pca_of_a_quarter": {"pca": "quarter"},
    "standard_scaler": {"scaler": "standard"},
    "test_rows_scaled_by_themselves": {"scaling": "own", "head": "linear"},
    "no_penalty": {"alphas": (0.0,)},
    "scores_not_calibrated": {"calibrate": "none"},
    "c_of_one": {"costs": (1.0,)},
    "hard_labels": {"labels": "hard"},
    "mean_over_folds": {"average": "folds"},
}
# of two switches of one option the later one counts: the study's PCA was of a quarter
STUDY = {k: v for switch in SWITCHES.values() for k, v in switch.items()}
PROFILES = {"published": {"encoder": "resnet50:layer3", "mpp": 0.5, "tolerance_ppm": 5.0, **STUDY}}
# What of the study no option reproduces, said by a run with all of its choices.
NOT_REPRODUCED = (
    "its grid of 0.001 m/z (the peaks of the m/z axis are used, as the grid's other points are "
    "zeros and flanks of the same peaks)",
    "its raw camera counts, with those above 2,000 made black (8-bit pixels are used, with those "
    "above 240 made black)",
    "its unseeded order of the pixels in the PCA (they come cell by cell)",
    "its five folds by the seed 21 of scikit-learn (pixel_folds deals out the pixels differently)",
    "its regression and registration, whose scripts were not published (least squares on all "
    "training pixels, and the registration of the manifest, are used)",
)


def follows_study(config: RunConfig) -> bool:
    """Whether all choices of the study are taken."""
    return all(getattr(config, name) == value for name, value in STUDY.items())


def load_config(path: str | None = None, profile: str | None = None, **overrides: Any) -> RunConfig:
    """Defaults, then those of `profile`, the TOML file at `path`, and `overrides` not None."""
    if profile is not None and profile not in PROFILES:
        raise InputError(f"--profile {profile}: unknown; give {', '.join(PROFILES)}")
    values: dict[str, Any] = dict(PROFILES[profile]) if profile else {}
    text, document = _read(path) if path is not None else ("", {})
    for name, value in document.items():
        values[name] = _checked(_where(str(path), text, name), name, value)
    values |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return RunConfig(**values)
    except InputError as error:
        named = re.findall(r"\w+", str(error).partition(":")[0])
        own = [n for n in named if n in document and values[n] is not overrides.get(n)]
        if not own:
            raise
        raise InputError(f"{_where(str(path), text, own[0])}: {error}") from None  # the file's


def permitted(found: object, named: str | None, source: str) -> str:
    """The encoder that a file names; one that is code of a user's only if the user names it too.

    Parameters
    ----------
    found
        What the model or the run at `source` says.
    named
        What the user says, or None.
    source
        For messages.

    Returns
    -------
    str
        `found`.

    Raises
    ------
    InputError
        They differ, or `found` is code and the user has not named it.
    """
    if not isinstance(found, str):
        raise InputError(f"{source}: its encoder {found!r} is not a name; the file is damaged")
    if named is not None and named != found:
        raise InputError(f"--encoder {named}: not that of {source}, which is {found}")
    if named is None and any(each.strip().startswith("own:") for each in found.split(",")):
        raise InputError(
            f"{source}: its encoder {found} is code that would be run here; if you know it, name "
            f"it yourself: --encoder {found}"
        )
    return found


_AT_LINE = re.compile(r"\(at line (\d+), column \d+\)")


def _read(path: str) -> tuple[str, dict[str, Any]]:
    from msiscale.store import read_bytes  # Zarr and more, which no --help waits for

    try:
        text = read_bytes(path).decode()
        return text, tomllib.loads(text)
    except FileNotFoundError:
        raise InputError(f"{path}: no such config file") from None
    except (ValueError, RecursionError) as error:  # TOML's own and that of UTF-8 are ValueErrors
        found = _AT_LINE.search(str(error))
        where = f"{path}:{found[1]}" if found else path
        raise InputError(f"{where}: not valid TOML: {error}; mend it there") from None
    except OSError as error:
        raise InputError(f"{path}: the config cannot be read ({error.strerror})") from None


def _where(path: str, text: str, name: str) -> str:
    """``path:line`` of an option; the parser itself does not tell."""
    # A line that looks like it is it if all that stands above is TOML by itself (so that it is not
    # within a string or an array) and has no such option.
    key = re.compile(rf"""\s*(\[\s*)*["']?{re.escape(name)}["']?\s*[.=\]]""")
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if key.match(line):
            try:
                above = tomllib.loads("\n".join(lines[: number - 1]))
            except tomllib.TOMLDecodeError:
                continue
            if name not in above:
                return f"{path}:{number}"
    return path


def _checked(path: str, name: str, value: Any) -> Any:
    if name not in OPTIONS:
        near = difflib.get_close_matches(name, OPTIONS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"{path}: unknown option {name!r}{hint}")
    if isinstance(value, list):
        value = tuple(value)
    if not _fits(value, OPTIONS[name].kind):
        kind = str(_KINDS[name]).replace("typing.", "").replace("<class '", "").rstrip("'>")
        raise InputError(f"{path}: option {name} = {value!r} should be {kind}")
    whole = isinstance(value, int) and _fits(0.5, OPTIONS[name].kind)
    return float(value) if whole and not isinstance(value, bool) else value


def _fits(value: Any, kind: Any) -> bool:
    inner = typing.get_args(kind)
    if is_union(kind):
        return any(_fits(value, one) for one in inner)
    if typing.get_origin(kind) is Literal:
        return isinstance(value, str) and value in inner
    if inner:
        return isinstance(value, tuple) and all(_fits(v, inner[0]) for v in value)
    if kind is float:
        # a whole number that float64 cannot hold would fail later
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
        return isinstance(value, float) or whole
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31
    return isinstance(value, kind)


def kept_options(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a ``run.json`` has, of those that there are now."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in parameters.items()
        if name in OPTIONS
    }


def as_dict(config: RunConfig) -> dict[str, Any]:
    """For ``run.json``."""
    return dataclasses.asdict(config)
