"""The choices of a run: defaults, a TOML file, and the command line over both."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import tomllib
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from msiscale.errors import InputError
from msiscale.store import read_bytes

# Working pixels of a forward pass, as large as 4 GiB a worker allow with the largest encoder here.
WINDOWS = {"float32": 2432, "bfloat16": 3200}
BANDED_WINDOW = 3200  # of a ResNet, which needs less memory (`msiscale.features.banded`)
TILE = 2048  # of the published study
PROTOCOLS = ("leave_one_patient_out", "spatial_blocks", "pixel_folds")


@dataclass(frozen=True)
class RunConfig:
    """Everything that changes a result, and nothing that does not (workers, progress, paths)."""

    # MSI
    normalise: Literal["none", "tic", "rms", "median", "reference"] = "tic"
    reference_mz: tuple[float, ...] | None = None  # the ions of normalise = "reference"
    transform: Literal["none", "log", "sqrt"] = "none"  # after it; see docs/preprocessing
    recalibrate: str | None = None  # a file of m/z, or "builtin:lipids|dhb|chca|9aa"
    recalibrate_ppm: float = 50.0  # the largest mass error that is looked for
    tolerance_ppm: float = 5.0
    axis: str | None = None  # a CSV of m/z, "ppm:LO:HI:STEP" or a run; default: peaks
    min_frequency: float = 0.01  # a peak must be in this fraction of one specimen's pixels
    snr: float = 3.0  # and this far above the noise of the summed spectrum
    # registration
    registration: Literal["given", "auto"] = "given"  # auto: from the images even where given
    refine: Literal["none", "bspline"] = "none"  # what the affine map leaves over; see the docs
    # slide
    encoder: str = "resnet50:layer3"  # several with commas: their channels one after another
    weights: str | None = None  # of each of them
    compile: bool = False  # by torch.compile
    mpp: float = 0.5  # µm a pixel at which the network sees the slide
    window: int | None = None  # slide pixels without the halo; see `default_window`
    precision: Literal["float32", "bfloat16"] = "float32"
    # tiles: each by itself, with its own batch statistics, as the study had them
    feature_mode: Literal["dense", "tiles"] = "dense"
    min_coverage: float = 0.5  # of an MSI pixel by the slide, below which it is left out
    # labels
    cancer_classes: tuple[str, ...] | None = None  # default: see slide.annotations
    exclude_classes: tuple[str, ...] | None = None
    # models
    components: int = 200
    alphas: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
    costs: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of the logistic regressions
    pca: Literal["training", "all"] = "training"  # whose spectra; all: the study's leak
    scaling: Literal["training", "own"] = "training"  # of held-out rows; own: the study's leak
    protocols: tuple[str, ...] = PROTOCOLS  # of validation; the first is the headline
    jitter: tuple[float, ...] = ()  # MSI pixels of error added to the registration
    null: int = 0  # draws of an annotation that means nothing
    # biomarkers
    lipids: str | None = None  # LMSD as CSV, TSV or SDF; default: a built-in table
    polarity: Literal["+", "-"] | None = None  # default: the files' own
    adducts: tuple[str, ...] | None = None
    annotation_ppm: float = 5.0
    shifts: int = 500  # places where the annotation is laid as well, to see what chance does
    # lipid annotation (msiscale annotate)
    decoys: int = 20  # implausible adducts a formula
    matrix_ions: str | None = None  # CSV or TSV with a column mz
    resolving_power: float = 140_000.0  # of an Orbitrap, at m/z 200
    # regions of predicted cancer
    region_probability: float = 0.5  # mean of the predictors, of a pixel, at least
    region_um2: float = 20_000.0  # smaller ones are left out
    # layout: how the work is cut, never what comes out
    block: int = 64  # MSI pixels on a side of one task and one shard

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, float) and not math.isfinite(number):
                    raise InputError(f"option {field.name} = {value!r}: give finite numbers")
        for name in ("min_frequency", "min_coverage"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"option {name} = {getattr(self, name)!r}: give one from 0 to 1")
        if self.snr < 0 or self.null < 0 or min(self.jitter, default=0) < 0:
            raise InputError("options snr, null and jitter: give none below zero")
        if self.shifts and self.shifts < 100:
            raise InputError(f"option shifts = {self.shifts!r}: give 100 or more, or 0 for none")
        if not 1 <= self.decoys <= 80:
            raise InputError(f"option decoys = {self.decoys!r}: give 1 to 80")
        if not 1e3 <= self.resolving_power < 1e8:
            raise InputError(
                f"option resolving_power = {self.resolving_power!r}: give m/z over peak width"
            )
        for name in ("tolerance_ppm", "recalibrate_ppm", "mpp", "annotation_ppm"):
            if not 0 < getattr(self, name) < 1e6:
                raise InputError(f"option {name} = {getattr(self, name)!r}: give a positive number")
        for name in ("window", "block", "components"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"option {name} = {getattr(self, name)!r}: give 1 or more")
        if self.window and self.window % 64:
            raise InputError(f"option window = {self.window}: give a multiple of 64 pixels")
        if (self.normalise == "reference") != bool(self.reference_mz):
            raise InputError(
                "option normalise = 'reference' and option reference_mz go together; give both"
            )
        if self.reference_mz and min(self.reference_mz) <= 0:
            raise InputError("option reference_mz: give positive m/z")
        unknown = set(self.protocols) - set(PROTOCOLS)
        if unknown:
            raise InputError(f"option protocols = {min(unknown)!r}: use {', '.join(PROTOCOLS)}")
        if not 0 < self.region_probability < 1:
            raise InputError(
                f"option region_probability = {self.region_probability!r}: give one between 0 and 1"
            )
        if not 0 <= self.region_um2 < float("inf"):
            raise InputError(f"option region_um2 = {self.region_um2!r}: give 0 or more")
        if not self.alphas or min(self.alphas) < 0:
            raise InputError("option alphas: give one or more numbers, none below zero")
        if not self.costs or min(self.costs) <= 0:
            raise InputError("option costs: give one or more positive numbers")

    @property
    def pixels_a_window(self) -> int:
        """Side of a forward pass without its halo, in working pixels."""
        tiles = self.feature_mode == "tiles"
        return self.window or (TILE if tiles else default_window(self.encoder, self.precision))

    def part(self, *names: str) -> dict[str, Any]:
        """Some of the choices, for the digest of a stage."""
        return {name: getattr(self, name) for name in names}


def default_window(encoder: str, precision: str) -> int:
    """Slide pixels on the side of a window, such that a worker stays below 4 GiB."""
    each = (
        BANDED_WINDOW if e.startswith("resnet50") else WINDOWS[precision]
        for e in encoder.split(",")
    )
    return min(each)


# Choices of the published study (Ul Haque et al. 2023, as coded). Its 0.001 grid is left out: it is
# the peaks that carry the signal. The swapped AUC is in every metrics.csv.
SWITCHES: dict[str, dict[str, Any]] = {
    "raw_intensities": {"normalise": "none"},
    "tiles_without_context": {"feature_mode": "tiles"},
    "pca_of_all": {"pca": "all"},
    "test_rows_scaled_by_themselves": {"scaling": "own"},
    "no_penalty": {"alphas": (0.0,)},
}
PROFILES = {"published": {k: v for switch in SWITCHES.values() for k, v in switch.items()}}


def load_config(path: str | None = None, profile: str | None = None, **overrides: Any) -> RunConfig:
    """Defaults, then those of `profile`, the TOML file at `path`, and `overrides` not None.

    Raises
    ------
    InputError
        An unknown option (the nearest known one is named) or a value of the wrong kind.
    """
    if profile is not None and profile not in PROFILES:
        raise InputError(f"--profile {profile}: unknown; give {', '.join(PROFILES)}")
    values: dict[str, Any] = dict(PROFILES[profile]) if profile else {}
    text = ""
    if path is not None:
        try:
            text = read_bytes(path).decode()
            document = tomllib.loads(text)
        except FileNotFoundError:
            raise InputError(f"{path}: no such config file") from None
        except (
            ValueError,
            RecursionError,
        ) as error:  # TOML's own and that of UTF-8 are ValueErrors
            found = _AT_LINE.search(str(error))
            where = f"{path}:{found[1]}" if found else path
            raise InputError(f"{where}: not valid TOML: {error}; mend it there") from None
        except OSError as error:
            raise InputError(f"{path}: the config cannot be read ({error.strerror})") from None
        for name, value in document.items():
            values[name] = _checked(_where(path, text, name), name, value)
    values |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return RunConfig(**values)
    except InputError as error:
        named = re.findall(r"\w+", str(error).partition(":")[0])
        own = [name for name in named if path is not None and name in document]
        if path is None or not own:
            raise
        raise InputError(f"{_where(path, text, own[0])}: {error}") from None  # the file says it


_KINDS = typing.get_type_hints(RunConfig)
_AT_LINE = re.compile(r"\(at line (\d+), column \d+\)")


def _where(path: str, text: str, name: str) -> str:
    """``path:line`` of an option; the parser itself does not tell.

    A line that looks like the option's is it if all that stands above is TOML by itself (so that it
    is not within a string or an array) and has no such option.
    """
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
    if name not in _KINDS:
        near = difflib.get_close_matches(name, _KINDS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"{path}: unknown option {name!r}{hint}")
    if isinstance(value, list):
        value = tuple(value)
    if not _fits(value, _KINDS[name]):
        kind = str(_KINDS[name]).replace("typing.", "").replace("<class '", "").rstrip("'>")
        raise InputError(f"{path}: option {name} = {value!r} should be {kind}")
    return float(value) if _KINDS[name] is float else value


def _fits(value: Any, kind: Any) -> bool:
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, k) for k in typing.get_args(kind))
    if origin is Literal:
        return value in typing.get_args(kind)
    if origin is tuple:
        item = typing.get_args(kind)[0]
        return isinstance(value, tuple) and all(_fits(v, item) for v in value)
    if kind is float:
        # a whole number that float64 cannot hold would fail later
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
        return isinstance(value, float) or whole
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31
    return isinstance(value, kind)


def as_dict(config: RunConfig) -> dict[str, Any]:
    """For ``run.json``."""
    return dataclasses.asdict(config)
