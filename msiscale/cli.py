"""The commands, thin: each turns its words into one call of the package."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from msiscale import __version__
from msiscale.errors import InputError

FAILED_SPECIMENS = 3


SECTIONS = {
    "A cohort": ("check", "run", "status", "verify", "withdraw", "ablate", "fuse"),
    "One stage of run": (
        *("ingest", "register", "features", "fit", "robustness", "biomarkers", "annotate"),
        *("regions", "report"),
    ),
    "Slides without MSI": ("predict", "ion-image"),
    "Formats of others": ("export", "convert", "config-schema"),
    "Cohorts with known truth": ("demo", "simulate"),
}


class Sections(click.Group):
    """Commands by what they are for, each with its whole first sentence."""

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in SECTIONS.items():
            with formatter.section(title):
                said = [self.commands[n].get_short_help_str(limit=200) for n in names]
                formatter.write_dl(list(zip(names, said, strict=True)))


@click.group(
    cls=Sections,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="msiscale")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Learn to read chemistry and cancer from H&E slides, on cohorts of paired MSI and slides."""
    context.obj = {"debug": debug}


def _options(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return wrap


def _words(_: Any, __: Any, value: str | None) -> tuple[str, ...] | None:
    return tuple(w.strip() for w in value.split(",") if w.strip()) if value else None


def _numbers(_: Any, option: click.Option, value: str | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        return tuple(float(w) for w in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not numbers between commas") from None


where_options = _options(
    click.option(
        "--scheduler",
        metavar="ADDRESS|FILE.json",
        help="A running Dask scheduler (tcp://…, tls://…) [as Dask is configured; else local].",
    ),
    click.option("--workers", type=click.IntRange(1), help="Worker processes [one a CPU]."),
    click.option(
        "--cluster",
        metavar="KIND",
        help="Start local, slurm, pbs, sge, kubernetes, ssh or cuda workers [local].",
    ),
    click.option("--cluster-config", metavar="FILE", help="TOML of the cluster (docs/clusters)."),
    click.option("--dashboard", metavar="HOST:PORT", help="Of a scheduler here [127.0.0.1:0]."),
    click.option("--performance-report", metavar="FILE", help="Dask's report of the run, HTML."),
)
WHERE = ("scheduler", "workers", "cluster", "cluster_config", "dashboard", "performance_report")

choice_options = _options(
    click.option("--config", metavar="FILE", help="A TOML file of the options below."),
    click.option(
        "--profile", type=click.Choice(["published"]), help="The choices of the 2023 study."
    ),
    click.option(
        "--normalise",
        type=click.Choice(["none", "tic", "rms", "median", "reference"]),
        help="Of spectra [tic].",
    ),
    click.option(
        "--reference-mz", callback=_numbers, help="Ions of --normalise reference, m/z, commas."
    ),
    click.option(
        "--transform",
        type=click.Choice(["none", "log", "sqrt"]),
        help="Of normalised intensities [none].",
    ),
    click.option(
        "--recalibrate",
        metavar="FILE|builtin:NAME",
        help="Correct m/z by known ions: a CSV of m/z; builtin: lipids, dhb, chca, 9aa.",
    ),
    click.option("--recalibrate-ppm", type=float, help="The largest error looked for, ppm [50]."),
    click.option("--tolerance-ppm", type=float, help="Half a peak's window, ppm [5]."),
    click.option(
        "--axis",
        metavar="FILE|ppm:LO:HI:STEP|RUN",
        help="The m/z axis; RUN: that of another run, its --out [peaks found].",
    ),
    click.option("--min-frequency", type=float, help="Of a peak among a specimen's pixels [0.01]."),
    click.option("--snr", type=float, help="Of a peak in the summed spectrum [3]."),
    click.option(
        "--registration",
        type=click.Choice(["given", "auto"]),
        help="By landmarks or matrix where given, else automatic; auto: always automatic [given].",
    ),
    click.option(
        "--refine",
        type=click.Choice(["none", "bspline"]),
        help="Deformation beyond the affine map, measured and drawn [none].",
    ),
    click.option(
        "--encoder",
        help="resnet50:layer3, resnet50:layer4, efficientnet-lite0, timm:NAME, "
        "own:MODULE:FUNCTION, or several with commas [resnet50:layer3].",
    ),
    click.option("--weights", metavar="NAME|FILE|random:SEED", help="Of the encoder [ImageNet]."),
    click.option(
        "--compile",
        is_flag=True,
        default=None,
        help="By torch.compile: a minute a worker first; for GPUs.",
    ),
    click.option("--mpp", type=float, help="µm a pixel at which the network sees the slide [0.5]."),
    click.option(
        "--window", type=int, help="Slide pixels a side of a forward pass [by precision]."
    ),
    click.option("--precision", type=click.Choice(["float32", "bfloat16"]), help="[float32]"),
    click.option("--block", type=int, help="MSI pixels a side of a task; changes no number [64]."),
    click.option(
        "--cancer-class", "cancer_classes", callback=_words, help="Annotation classes, commas."
    ),
    click.option(
        "--exclude-class", "exclude_classes", callback=_words, help="Classes left unknown, commas."
    ),
    click.option("--components", type=int, help="PCA modes, at most [200]."),
    click.option("--alphas", callback=_numbers, help="Ridge penalties to choose from; 0: none."),
    click.option("--costs", callback=_numbers, help="C of the logistic fits to choose from."),
    click.option(
        "--protocols",
        callback=_words,
        help="Of validation: leave_one_patient_out,spatial_blocks,pixel_folds [all three].",
    ),
    click.option(
        "--region-probability", type=float, help="Of predicted cancer in a region, a pixel [0.5]."
    ),
    click.option("--region-um2", type=float, help="Smaller regions are left out [20000]."),
    click.option(
        "--feature-mode",
        type=click.Choice(["dense", "tiles"]),
        help="Of features; tiles: each by itself, as published [dense].",
    ),
    click.option("--pca", type=click.Choice(["training", "all"]), help="Of whose MSI [training]."),
    click.option(
        "--scaling", type=click.Choice(["training", "own"]), help="Of held-out rows [training]."
    ),
    click.option(
        "--jitter",
        is_flag=False,
        flag_value="0,0.5,1,2",
        callback=_numbers,
        metavar="[PX,…]",
        help="Fit again with the slide so many MSI pixels away [0,0.5,1,2].",
    ),
    click.option("--null", type=click.IntRange(0), help="Fits with a moved annotation [0]."),
    click.option("--lipids", metavar="FILE", help="LIPID MAPS LMSD as CSV, TSV or SDF [built in]."),
    click.option("--polarity", type=click.Choice(["+", "-"]), help="[as the files say]"),
    click.option("--adducts", callback=_words, help="[M+H]+,[M+Na]+,… [by polarity]"),
    click.option("--annotation-ppm", type=float, help="Tolerance of the lipid match [5]."),
    click.option("--shifts", type=int, help="Places the annotation is tried at, by chance [500]."),
)


annotate_options = _options(
    click.option("--decoys", type=int, help="Implausible adducts a formula [20]."),
    click.option("--matrix-ions", metavar="FILE", help="CSV with a column mz, to be marked."),
    click.option("--resolving-power", type=float, help="At m/z 200, of an Orbitrap [140000]."),
)


def _run(context: click.Context, manifest: str, out: str, stage: str | None, words: Any) -> None:
    from msiscale.config import load_config
    from msiscale.pipeline import run

    where = {name: words.pop(name) for name in WHERE}
    new_axis = words.pop("new_axis", False)
    config = load_config(words.pop("config"), words.pop("profile"), **words)
    result = run(
        manifest,
        out,
        config=config,
        **where,
        stages=None if stage is None else (stage,),
        new_axis=new_axis,
        debug=context.obj["debug"],
    )
    for line in result.summary():
        click.echo(line)
    if result.failed:
        click.echo(f"{len(result.failed)} of {result.total} specimens failed:", err=True)
        for name, why in result.failed.items():
            click.echo(f"  {name}: {why}", err=True)
        context.exit(FAILED_SPECIMENS)


def _stage(name: str, help_text: str) -> None:
    @cli.command(name, help=help_text)
    @click.argument("manifest")
    @click.option("--out", required=True, metavar="URL", help="Where the results go.")
    @choice_options
    @where_options
    @click.pass_context
    def command(context: click.Context, manifest: str, out: str, **words: Any) -> None:
        _run(context, manifest, out, None if name == "run" else name, words)

    if name == "annotate":
        annotate_options(command)
    if name in ("run", "ingest"):
        again = "Find the m/z axis anew; reads every MSI file again."
        click.option("--new-axis", is_flag=True, help=again)(command)


_stage("run", "Every stage on the cohort of MANIFEST; run it again to go on where it stopped.")
_stage("ingest", "MSI files onto one m/z axis, as a labelled Zarr cube a specimen.")
_stage("register", "Tissue, annotation and a preview of every slide on the MSI grid.")
_stage("features", "Deep features of every slide on the MSI grid.")
_stage("fit", "PCA, ridge and logistic fits, leaving out one patient at a time.")
_stage("robustness", "What a misplaced slide would do, and chance (--jitter, --null).")
_stage("biomarkers", "Every m/z against the annotation, strongest first, with lipid names.")
_stage("annotate", "Lipids with a false-discovery rate from decoys, by specimen and cohort.")
_stage("regions", "Outlines of predicted cancer, and a table of those outside the annotation.")
_stage("report", "Figures and report.html.")


@cli.command()
@click.argument("manifest")
@click.option("--out", required=True, metavar="URL", help="Of a finished run of MANIFEST.")
@choice_options
@where_options
@click.pass_context
def ablate(context: click.Context, manifest: str, out: str, **words: Any) -> None:
    """What each choice of the published study changes on this cohort: a run for each of them.

    Give the options of the finished run. Writes switches.csv.
    """
    from msiscale.config import load_config
    from msiscale.pipeline.ablate import ablate as run_switches

    where = {name: words.pop(name) for name in WHERE}
    config = load_config(words.pop("config"), words.pop("profile"), **words)
    click.echo(run_switches(manifest, out, config, **where, debug=context.obj["debug"]))


@cli.command()
@click.option("--out", default="demo", show_default=True, metavar="DIR")
@click.option("--specimens", type=click.IntRange(4), default=6, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@where_options
@click.pass_context
def demo(context: click.Context, out: str, specimens: int, seed: int, **words: Any) -> None:
    """Simulate a small cohort, run everything on it, write the report. Works offline."""
    from msiscale.demo import demo as run_demo

    result = run_demo(out, specimens=specimens, seed=seed, debug=context.obj["debug"], **words)
    for line in result.summary():
        click.echo(line)
    if result.failed:
        context.exit(FAILED_SPECIMENS)


@cli.command()
@click.argument("directory")
@click.option("--specimens", type=click.IntRange(1), help="[6; with --slide one a slide]")
@click.option("--patients", type=click.IntRange(1), help="Shared out in turn [one a specimen].")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--pixels", type=(int, int), help="MSI rows and columns [40 44; of the tissue].")
@click.option("--pixel-um", type=float, help="MSI pixel, µm [100; with --slide 50].")
@click.option("--mpp", type=float, default=1.0, show_default=True, help="Of the slides, µm.")
@click.option("--null", is_flag=True, help="Annotate a place like any other: nothing to find.")
@click.option("--slide", multiple=True, help="A real slide to simulate the MSI on (repeatable).")
@click.option("--slide-mpp", type=float, help="µm a pixel of those slides, where they lack it.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
def simulate(directory: str, **words: Any) -> None:
    """A phantom cohort with known truth: imzML, slides, annotations, manifest and truth/."""
    from msiscale.simulate import simulate as write_cohort

    click.echo(write_cohort(directory, **{**words, "slide": words["slide"] or None}))


@cli.command()
@click.argument("manifest")
@choice_options
@click.pass_context
def check(context: click.Context, manifest: str, **words: Any) -> None:
    """Open and validate every input, compute nothing; one line a problem, exit 1 if any."""
    from msiscale.config import load_config
    from msiscale.pipeline.check import check as check_inputs

    config = load_config(words.pop("config"), words.pop("profile"), **words)
    problems = check_inputs(manifest, config)
    for line in problems:
        click.echo(line)
    if problems:
        context.exit(1)
    click.echo("all inputs can be used")


@cli.command()
@click.argument("url")
def status(url: str) -> None:
    """What is done, missing or failed (and why), for every specimen and stage."""
    from msiscale.pipeline.status import status as read_status

    for line in read_status(url):
        click.echo(line)


@cli.command()
@click.argument("url")
@click.option("--redo", is_flag=True, help="Drop what is damaged: the next run makes it anew.")
@where_options
def verify(url: str, redo: bool, **words: Any) -> None:
    """Read everything in the run at URL again: every chunk present and unaltered, or which stage
    to redo; exit 1 if any is not."""
    from msiscale.cluster import Where
    from msiscale.pipeline.verify import verify as read_again

    found = read_again(url, redo=redo, where=Where(**words))
    for damage in found.damages:
        click.echo(damage)
    if not found.damages:
        click.echo(f"{found.checked} files and parts of arrays are as they were written")
    elif redo:
        click.echo("their records are dropped; run the same command again to make them anew")
    else:
        raise InputError(
            f"{url}: {len(found.damages)} damaged; msiscale verify {url} --redo, then run again"
        )


@cli.command()
@click.argument("url")
@click.argument("specimens", nargs=-1, required=True)
def withdraw(url: str, specimens: tuple[str, ...]) -> None:
    """Delete all that the run at URL holds of some specimens, and what was computed with them."""
    from msiscale.pipeline.withdraw import withdraw as delete

    for line in delete(url, specimens):
        click.echo(line)


@cli.command()
@click.argument("model")
@click.argument("slides", nargs=-1, required=True)
@click.option("--out", required=True, metavar="URL")
@click.option(
    "--pixel-um",
    type=float,
    help="Grid of the prediction, µm, down to the features' own cells [as in the training].",
)
@click.option("--slide-mpp", type=float, help="µm a level-0 pixel, where the slide lacks it.")
@click.option("--mz", callback=_numbers, help="Also the predicted ion images of these m/z.")
@click.option("--region-probability", type=float, help="Of predicted cancer in a region [0.5].")
@click.option("--region-um2", type=float, help="Smaller regions are left out [20000].")
@click.option("--weights", metavar="FILE", help="Of the encoder, where they were a file.")
@where_options
@click.pass_context
def predict(context: click.Context, model: str, slides: tuple[str, ...], **words: Any) -> None:
    """Cancer and chemistry of SLIDES that have no MSI, by MODEL (the model.zarr of a run)."""
    from msiscale.pipeline.predict import predict as predict_slides

    failed = predict_slides(model, slides, debug=context.obj["debug"], **words)
    for name, why in failed.items():
        click.echo(f"msiscale: {name}: {why}", err=True)
    if failed:
        context.exit(FAILED_SPECIMENS if len(failed) < len(slides) else 1)


@cli.command("ion-image")
@click.argument("prediction")
@click.option("--mz", callback=_numbers, required=True, help="One or more m/z, commas.")
@click.option("--out", required=True, metavar="FILE.png|FILE.zarr")
def ion_image(prediction: str, mz: tuple[float, ...], out: str) -> None:
    """Predicted ion images of any m/z, from the scores of a PREDICTION (predictions.zarr/NAME)."""
    from msiscale.prediction import write_ion_images

    write_ion_images(prediction, mz, out)
    click.echo(out)


@cli.command()
@click.argument("manifest")
@click.option("--out", required=True, metavar="URL", help="Of a run that has the features.")
@click.option("--factors", callback=_numbers, default="2,4,8", show_default=True)
@click.option("--methods", callback=_words, help="Of docs/fusion, commas [all but pls_deep].")
@click.option(
    "--ions", metavar="N|m/z,…", default="20", show_default=True, help="How many, or which."
)
@click.option("--pixel-um", type=float, help="Of sharpened images, at most [a quarter of the MSI].")
@click.option("--scores-only", is_flag=True, help="No sharpened images.")
@click.option("--weights", metavar="FILE", help="Of the encoder, where they were a file.")
@where_options
@click.pass_context
def fuse(context: click.Context, manifest: str, **words: Any) -> None:
    """Sharpen the ion images of a run with the H&E by several methods, and score them.

    Each method restores ion images that were degraded by the factors; fusion.csv says how well.
    """
    from msiscale.pipeline.fuse import fuse as fuse_images

    result = fuse_images(manifest, debug=context.obj["debug"], **words)
    for line in result.summary():
        click.echo(line)
    for name, why in result.failed.items():
        click.echo(f"msiscale: {name}: {why}", err=True)
    if result.failed:
        context.exit(FAILED_SPECIMENS)


@cli.command("export")
@click.argument("run", metavar="RUN")
@click.option(
    "--out", required=True, metavar="URL", help="A folder; for spatialdata SOMETHING.zarr."
)
@click.option(
    "--format",
    required=True,
    type=click.Choice(["ome-zarr", "spatialdata", "anndata", "parquet", "imzml", "geojson"]),
    help="See docs/formats.",
)
@click.option("--specimen", "specimens", multiple=True, help="Only this one (repeatable).")
@click.option(
    "--mz",
    callback=_numbers,
    help="Of ion images (ome-zarr, spatialdata) [the strongest] or columns (parquet) [none].",
)
@click.option(
    "--slides/--no-slides", default=True, show_default=True, help="Of ome-zarr: the H&E too."
)
@click.pass_context
def export_results(context: click.Context, run: str, out: str, **words: Any) -> None:
    """Results in the formats of other tools: RUN is the --out of run, or of predict."""
    from msiscale.export import export

    done = export(run, out, **words)
    for url in done.written:
        click.echo(url)
    for name, why in done.left_out.items():
        click.echo(f"msiscale: {name} is not in it: {why}", err=True)
    if done.left_out:
        context.exit(FAILED_SPECIMENS)


@cli.command("config-schema")
def config_schema() -> None:
    """The JSON schema of the file of --config, for editors and checkers."""
    import json

    from msiscale.config_schema import schema

    options = (p for p in cli.commands["run"].params if isinstance(p, click.Option))
    said = {str(p.name): p.help or "" for p in options}
    click.echo(json.dumps(schema(said), indent=2, ensure_ascii=False))


@cli.command()
@click.argument("slide")
@click.argument("url")
@click.option("--mpp", type=float, help="µm a level-0 pixel, where the slide lacks it.")
def convert(slide: str, url: str, mpp: float | None) -> None:
    """A slide as an OME-Zarr 0.5 pyramid."""
    from msiscale.slide.convert import convert as convert_slide

    convert_slide(slide, url, mpp=mpp)
    click.echo(url)


def _complete_paths() -> None:
    """What names a file, folder or URL completes as a path in the shell, and is taken as it is."""
    for command in cli.commands.values():
        for param in command.params:
            words = {*str(param.metavar).replace(".", "|").split("|")}
            named = isinstance(param, click.Argument) or words & {"FILE", "DIR", "URL"}
            if named and param.type is click.STRING and param.name != "specimens":
                param.type = click.Path(readable=False)


_complete_paths()


def main() -> None:
    """The command line: 0 done, 1 bad input or use in one line, 3 some specimens failed."""
    arguments = sys.argv[1:]
    if "--debug" in arguments:  # allowed anywhere, as users type it last
        arguments = ["--debug", *(a for a in arguments if a != "--debug")]
    try:
        code = cli.main(arguments, prog_name="msiscale", standalone_mode=False)
    except click.exceptions.Abort:
        _stop(130, "interrupted; the same command goes on where it stopped")
    except KeyboardInterrupt:
        _stop(130, "interrupted; the same command goes on where it stopped")
    except click.ClickException as error:
        _stop(1, error.format_message())
    except InputError as error:
        if "--debug" in arguments:
            raise
        _stop(1, str(error))
    except Exception as error:
        if "--debug" in arguments:
            raise
        text = " ".join(str(error).split())
        _stop(1, f"{type(error).__name__}: {text} (--debug shows where)")
    sys.exit(code if isinstance(code, int) else 0)


def _stop(code: int, line: str) -> None:
    print(f"msiscale: {line}", file=sys.stderr)
    sys.exit(code)
