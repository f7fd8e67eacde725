"""The commands, thin: each turns its words into one call of the package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from msiscale import __version__
from msiscale.cli.options import NAMES, NUMBERS, Group, choices, configured, of_field, option, where
from msiscale.config import OPTIONS
from msiscale.config_schema import schema
from msiscale.errors import InputError
from msiscale.pipeline.stages import STAGES, stage_named

FAILED_SPECIMENS = 3
COHORT = "A cohort"
STAGE = "One stage of run"
SLIDES = "Slides without MSI"
FORMATS = "Formats of others"
TRUTH = "Cohorts with known truth"


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="msiscale")
@click.option(
    "--debug", is_flag=True, help="Show the traceback of an error, and what libraries say."
)
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Learn to read chemistry and cancer from H&E slides, on cohorts of paired MSI and slides."""
    context.obj = {"debug": debug}


out_option = option("--out", "Folder or URL of the results", required=True, metavar="URL")
new_axis = option(
    "--new-axis", "Find the m/z axis anew, from every MSI file", section="MSI", is_flag=True
)
moved_weights = option(
    "--weights", "File of the encoder's weights", unset="where the run had it", metavar="FILE"
)


own_encoder = option(
    "--encoder",
    "Encoder that the run was made with: needed where it is own:MODULE:FUNCTION, code of yours",
    unset="that of the run, if it is none of own:",
    metavar="NAME",
)


def _told(
    context: click.Context, failed: Mapping[str, str], what: str = "", code: int = FAILED_SPECIMENS
) -> None:
    """Name what failed, if anything did."""
    for name, why in failed.items():
        click.echo(f"msiscale: {name}{what}: {why}", err=True)
    if failed:
        context.exit(code)


def _ended(context: click.Context, result: Any) -> None:
    """Say how a run ended."""
    for line in result.summary():
        click.echo(line)
    if result.failed:
        click.echo(f"{len(result.failed)} of {result.total} specimens failed:", err=True)
        for name, why in result.failed.items():
            click.echo(f"  {name}: {why}", err=True)
        context.exit(FAILED_SPECIMENS)


@cli.command(section=COHORT)
@click.argument("manifest")
@choices()
@option("--strict", "Exit with 1 where there is a warning, not only a problem", is_flag=True)
@option("--json as_json", "Print problems, notices and what was understood as JSON", is_flag=True)
@click.pass_context
def check(
    context: click.Context, /, manifest: str, strict: bool, as_json: bool, **words: Any
) -> None:
    """Open and validate every input and say how each was understood; compute nothing.

    One line a problem, exit 1 if any.
    """
    from msiscale.notices import lines
    from msiscale.pipeline.check import check as check_inputs

    found = check_inputs(manifest, configured(words))
    kinds = {k: [n for n in found.notices if n.severity == k] for k in ("warning", "note")}
    fails = bool(found.problems or (strict and kinds["warning"]))
    if as_json:
        click.echo(json.dumps(found.as_dict(), ensure_ascii=False, indent=1))
        context.exit(int(fails))
    for line in [*(line for each in found.understood for line in each.lines()), *found.problems]:
        click.echo(line)
    counts = []
    for kind, some in kinds.items():
        told = [*lines(some)]
        for line in told:
            click.echo(f"{kind}: {line}")
        if told:
            counts.append(f"{len(told)} {kind}{'' if len(told) == 1 else 's'}")
    if not found.problems:
        but = f", with {' and '.join(counts)}" if counts else ""
        click.echo(f"all inputs can be used{but}")
    context.exit(int(fails))


def _add(name: str, section: str, help: str, *stages: str) -> None:
    """The command that runs some stages, or all that are not asked for."""

    @click.argument("manifest")
    @out_option
    @choices(*stages)
    @where
    @click.pass_context
    def command(context: click.Context, /, manifest: str, out: str, **words: Any) -> None:
        from msiscale.pipeline import run

        words |= {"config": configured(words), "debug": context.obj["debug"]}
        _ended(context, run(manifest, out, stages=stages or None, **words))

    if name in ("run", "ingest"):
        command = new_axis(command)
    note = "The options of other stages are taken too: give each stage the same." if stages else ""
    cli.command(name, section=section, help=help, epilog=note)(command)


_add(
    "run", COHORT, "Every stage on the cohort of MANIFEST; run it again to go on where it stopped."
)


@cli.command(section=COHORT)
@click.argument("url")
def status(url: str) -> None:
    """What is done, missing or failed (and why), for every specimen and stage."""
    from msiscale.pipeline.status import status as read_status

    for line in read_status(url):
        click.echo(line)


@cli.command(section=COHORT)
@click.argument("url")
@option("--redo", "Drop what is damaged, so that the next run makes it anew", is_flag=True)
@where
def verify(url: str, redo: bool, **words: Any) -> None:
    """Read the whole run at URL again; where it is damaged, name the stage to redo and exit 1."""
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


@cli.command(section=COHORT)
@click.argument("url")
@click.argument("specimens", nargs=-1, required=True, type=click.UNPROCESSED)
def withdraw(url: str, specimens: tuple[str, ...]) -> None:
    """Delete all that the run at URL holds of some specimens, and what was computed with them."""
    from msiscale.pipeline.withdraw import withdraw as delete

    for line in delete(url, specimens):
        click.echo(line)


@cli.command(
    section=COHORT,
    help=f"{stage_named('place').help}\n\nRuns ingest and register first where they are missing; "
    "the options are of a run that is not there yet.",
)
@click.argument("manifest")
@out_option
@option("--specimen specimens", "Only this specimen; may be repeated", multiple=True)
@option("--ions", "Ion images of a page, at most", 24, type=click.IntRange(1, 200))
@choices("ingest", "register")
@where
@click.pass_context
def place(
    context: click.Context,
    /,
    manifest: str,
    out: str,
    specimens: tuple[str, ...],
    ions: int,
    **words: Any,
) -> None:
    from msiscale.cluster import Where
    from msiscale.place import place as write_pages

    found = write_pages(
        manifest,
        out,
        specimens=specimens,
        ions=ions,
        config=configured(words),
        where=Where(**words),
        debug=context.obj["debug"],
    )
    for url in found.pages.values():
        click.echo(url)
    click.echo(f"open {found.index} in a browser")
    _told(context, found.failed, " has no page")


@cli.command(
    section=COHORT,
    help=f"{stage_named('ablate').help}\n\nGive the options of the finished run at --out.",
)
@click.argument("manifest")
@out_option
@choices("ingest", "register", "features", "fit")
@where
@click.pass_context
def ablate(context: click.Context, /, manifest: str, out: str, **words: Any) -> None:
    from msiscale.pipeline.ablate import ablate as run_switches

    config = configured(words)
    click.echo(run_switches(manifest, out, config, debug=context.obj["debug"], **words))


@cli.command(section=COHORT, help=stage_named("power").help)
@click.argument("url")
@option("--effect effects", "AUCs of a biomarker", "0.6,0.7,0.8,0.9", **NUMBERS)
@option("--patients", "Numbers of patients", "3,4,6,8,10,15,20,30,50,100", **NUMBERS)
@where
@click.pass_context
def power(
    context: click.Context,
    /,
    url: str,
    effects: tuple[float, ...],
    patients: tuple[float, ...],
    **words: Any,
) -> None:
    from msiscale.cluster import Where
    from msiscale.pipeline.power import power as tell

    debug, cluster = context.obj["debug"], Where(**words)
    for line in tell(url, effects=effects, patients=patients, debug=debug, where=cluster):
        click.echo(line)


@cli.command(
    section=COHORT,
    help=f"{stage_named('fuse').help}\n\nEach method restores ion images that were degraded by the "
    "factors; fusion.csv says how well.",
)
@click.argument("manifest")
@option("--out", "Folder or URL of a run that has its features", required=True, metavar="URL")
@option("--factors", "Whole numbers by which the MSI is degraded", "2,4,8", **NUMBERS)
@option("--methods", "Methods, see docs/fusion", unset="all but pls_deep", **NAMES)
@option("--ions", "Number of ions with the most structure, or their m/z", "20", metavar="N|m/z,…")
@option(
    "--pixel-um", "Largest pixel of the images, in µm", unset="a quarter of the MSI's", type=float
)
@option("--scores-only", "Write scores, and no sharpened images", is_flag=True)
@option(
    "--consistent", "Make the mean of a pixel's parts what was measured, by adding", is_flag=True
)
@moved_weights
@own_encoder
@where
@click.pass_context
def fuse(context: click.Context, /, manifest: str, **words: Any) -> None:
    from msiscale.pipeline.fuse import fuse as fuse_images

    result = fuse_images(manifest, debug=context.obj["debug"], **words)
    for line in result.summary():
        click.echo(line)
    _told(context, result.failed)


for stage in STAGES:
    if stage.run is not None:
        _add(stage.name, STAGE, stage.help, stage.name)


@cli.command(section=SLIDES)
@click.argument("model")
@click.argument("slides", nargs=-1, required=True)
@out_option
@option(
    "--pixel-um", "Grid of the prediction, in µm", unset="the MSI pixel of the training", type=float
)
@option("--slide-mpp", "Pixel size of slides that lack it, in µm", type=float)
@option("--mz", "Write the predicted ion images of these m/z too", unset="none", **NUMBERS)
@of_field(OPTIONS["region_probability"])
@of_field(OPTIONS["region_um2"])
@option(
    "--prevalence",
    "Share of the tissue that is taken to be cancer in such slides, which moves the probabilities",
    unset="that of the training patients",
    type=float,
    metavar="P",
)
@moved_weights
@own_encoder
@where
@click.pass_context
def predict(context: click.Context, /, model: str, slides: tuple[str, ...], **words: Any) -> None:
    """Cancer and chemistry of SLIDES that have no MSI, by MODEL (the model.zarr of a run)."""
    from msiscale.pipeline.predict import predict as predict_slides

    failed = predict_slides(model, slides, debug=context.obj["debug"], **words)
    _told(context, failed, code=FAILED_SPECIMENS if len(failed) < len(slides) else 1)


@cli.command("ion-image", section=SLIDES)
@click.argument("prediction")
@option(
    "--mz", "Ions to predict, as m/z", unset="those of tiers A and B that are read best", **NUMBERS
)
@option(
    "--absent",
    "Lipids that the training lacked, as PC 34:1 [M+H]+: inferred from those of their class",
    unset="none",
    **NAMES,
)
@option("--out", "Picture or array to write", required=True, metavar="FILE.png|FILE.zarr")
def ion_image(
    prediction: str, mz: tuple[float, ...] | None, absent: tuple[str, ...] | None, out: str
) -> None:
    """Predicted ion images of any m/z and their bounds, of a PREDICTION (predictions.zarr/NAME)."""
    from msiscale.prediction import write_absent_images, write_ion_images

    if mz and absent:
        raise InputError("--mz and --absent: give one of them; an inferred image is none predicted")
    lines = (
        write_absent_images(prediction, absent, out)
        if absent
        else write_ion_images(prediction, mz or None, out)
    )
    for line in lines:
        click.echo(line, err=True)
    click.echo(out)


@cli.command("export", section=FORMATS)
@click.argument("run", metavar="RUN")
@option("--out", "Folder to write; for spatialdata NAME.zarr", required=True, metavar="URL")
@option(
    "--format",
    "Format to write, see docs/formats",
    required=True,
    type=click.Choice(["ome-zarr", "spatialdata", "anndata", "parquet", "imzml", "geojson"]),
)
@option("--specimen specimens", "Only this specimen; may be repeated", multiple=True)
@option(
    "--mz",
    "Ions of images (ome-zarr, spatialdata) or columns (parquet), as m/z",
    unset="the strongest as images, no columns",
    **NUMBERS,
)
@option("--slides/--no-slides", "Write the H&E too, for ome-zarr", True, unset="yes")
@click.pass_context
def export_results(context: click.Context, /, run: str, out: str, **words: Any) -> None:
    """Results in the formats of other tools: RUN is the --out of run, or of predict."""
    from msiscale.export import export

    done = export(run, out, **words)
    for url in done.written:
        click.echo(url)
    _told(context, done.left_out, " is not in it")


@cli.command(section=FORMATS)
@click.argument("slide")
@click.argument("url")
@option("--mpp", "Pixel size of a slide that lacks it, in µm", type=float)
def convert(slide: str, url: str, mpp: float | None) -> None:
    """A slide as an OME-Zarr 0.5 pyramid."""
    from msiscale.slide.convert import convert as convert_slide

    convert_slide(slide, url, mpp=mpp)
    click.echo(url)


@cli.command("config-schema", section=FORMATS)
def config_schema() -> None:
    """The JSON schema of the file of --config, for editors and checkers."""
    click.echo(json.dumps(schema(), indent=2, ensure_ascii=False))


@cli.command(section=TRUTH)
@option("--out", "Folder to write", "demo", metavar="DIR")
@option("--specimens", "Number of specimens, 4 or more", 6, type=click.IntRange(4))
@option("--seed", "Seed of the simulation", 0)
@where
@click.pass_context
def demo(context: click.Context, /, out: str, **words: Any) -> None:
    """Simulate a small cohort, run everything on it, write the report. Works offline."""
    from msiscale.demo import demo as run_demo

    _ended(context, run_demo(out, debug=context.obj["debug"], **words))


@cli.command(section=TRUTH)
@click.argument("directory")
@option(
    "--specimens",
    "Number of specimens",
    unset="6, or one for each given slide",
    type=click.IntRange(1),
)
@option("--patients", "Number of patients", unset="one for each specimen", type=click.IntRange(1))
@option("--seed", "Seed of the simulation", 0)
@option("--pixels", "MSI rows and columns", unset="40 44, or of a given slide", type=(int, int))
@option("--pixel-um", "MSI pixel, in µm", unset="100, or 50 on a given slide", type=float)
@option("--mpp", "Pixel size of the slides, in µm", 1.0)
@option("--null", "Annotate a place like any other, so that there is nothing to find", is_flag=True)
@option("--slide", "Real slide to simulate the MSI on; may be repeated", multiple=True)
@option("--slide-mpp", "Pixel size of given slides that lack it, in µm", type=float)
@option("--workers", "Number of processes", 1, type=click.IntRange(1))
def simulate(directory: str, **words: Any) -> None:
    """A phantom cohort with known truth: imzML, slides, annotations, manifest and truth/."""
    from msiscale.simulate import simulate as write_cohort

    click.echo(write_cohort(directory, **{**words, "slide": words["slide"] or None}))
