"""The commands, thin: each turns its words into one call of the package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from msiscale import __version__
from msiscale.cli.first_hour import doctor, init
from msiscale.cli.options import NAMES, NUMBERS, Group, choices, configured, of_field, option, where
from msiscale.config import OPTIONS
from msiscale.config_schema import schema
from msiscale.errors import InputError
from msiscale.pipeline.stages import STAGES, stage_named

FAILED_SPECIMENS = 3
COHORT = "A cohort"
STAGE = "One stage of run"
SLIDES = "Slides without MSI"
FORMATS = "Other formats"
TRUTH = "Cohorts with known truth"


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="msiscale")
@click.option(
    "--debug", is_flag=True, help="Show tracebacks of errors and the messages of libraries."
)
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Learn to read chemistry and cancer from H&E slides, with cohorts of paired MSI and slides."""
    context.obj = {"debug": debug}


for command in (init, doctor):
    cli.add_command(command)

out_option = option("--out", "Folder or URL for the results", required=True, metavar="URL")
new_axis = option(
    "--new-axis", "Find the m/z axis again, from every MSI file", section="MSI", is_flag=True
)
moved_weights = option(
    "--weights",
    "File with the weights of the encoder",
    unset="the file that the run used",
    metavar="FILE",
)


own_encoder = option(
    "--encoder",
    "Encoder of the run; needed only where it is your own code (own:MODULE:FUNCTION)",
    unset="the encoder of the run",
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
@option("--strict", "Exit with status 1 for warnings as well as for problems", is_flag=True)
@option(
    "--json as_json",
    "Print problems, notices and how each input was understood, as JSON",
    is_flag=True,
)
@click.pass_context
def check(
    context: click.Context, /, manifest: str, strict: bool, as_json: bool, **words: Any
) -> None:
    """Open and validate every input, and say how each was understood. Compute nothing.

    Every problem is one line. The exit status is 1 if there is a problem.
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
    if found.of_machine:
        click.echo("msiscale doctor with the same options says what is missing on this machine")
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
    note = (
        "Options of other stages are accepted too. Give every stage the same options."
        if stages
        else ""
    )
    cli.command(name, section=section, help=help, epilog=note)(command)


_add(
    "run",
    COHORT,
    "Run every stage on the cohort of MANIFEST. Run it again to continue where it stopped.",
)


@cli.command(section=COHORT)
@click.argument("url")
@option("--watch", "Show progress until the run has ended, then the whole list", is_flag=True)
def status(url: str, watch: bool) -> None:
    """List what is done, missing or failed, and why, for every specimen and stage."""
    from msiscale.cli.watching import show
    from msiscale.pipeline.status import status as read_status
    from msiscale.pipeline.status import watched

    if watch:
        show(url, watched(url))
    for line in read_status(url):
        click.echo(line)


@cli.command("compare-runs", section=COHORT)
@click.argument("runs", nargs=-1, required=True)
@option(
    "--out", "Folder or URL for comparison.html and comparison.csv", "comparison", metavar="URL"
)
def compare_runs(runs: tuple[str, ...], out: str) -> None:
    """Put RUNS side by side: headlines, differences over shared patients, and settings."""
    from msiscale.report.side_by_side import compare_runs as put_side_by_side

    for line in put_side_by_side(runs, out):
        click.echo(line)


@cli.command(section=COHORT)
@click.argument("url")
@option("--redo", "Drop what is damaged, so that the next run makes it again", is_flag=True)
@where
def verify(url: str, redo: bool, **words: Any) -> None:
    """Read the whole run at URL again, and name what is damaged; exit with 1 if anything is."""
    from msiscale.cluster import Where
    from msiscale.pipeline.verify import verify as read_again

    found = read_again(url, redo=redo, where=Where(**words))
    for damage in found.damages:
        click.echo(damage)
    if not found.damages:
        click.echo(f"{found.checked} files and parts of arrays are as they were written")
    elif redo:
        click.echo("their records are dropped; run the same command again to make them again")
    else:
        raise InputError(
            f"{url}: {len(found.damages)} damaged; msiscale verify {url} --redo, then run again"
        )


@cli.command(section=COHORT)
@click.argument("url")
@click.argument("specimens", nargs=-1, required=True, type=click.UNPROCESSED)
def withdraw(url: str, specimens: tuple[str, ...]) -> None:
    """Delete SPECIMENS from the run at URL, with every result computed from them."""
    from msiscale.pipeline.withdraw import withdraw as delete

    for line in delete(url, specimens):
        click.echo(line)


@cli.command(
    section=COHORT,
    help=f"{stage_named('place').help}\n\nThe stages ingest and register run first "
    "where they are missing. A run at --out keeps its options; those below are for a new one.",
)
@click.argument("manifest")
@out_option
@option("--specimen specimens", "Only this specimen; may be repeated", multiple=True)
@option("--ions", "Largest number of ion images on a page", 24, type=click.IntRange(1, 200))
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
    help=f"{stage_named('ablate').help}\n\nGive the same options as for the finished run at --out.",
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


@cli.command(
    section=COHORT,
    help=f"{stage_named('rank').help}\n\nGive the same options as for the run at --out.",
)
@click.argument("manifest")
@out_option
@option("--encoders", "Encoders to compare, separated by commas", required=True, **NAMES)
@option("--modes", "Ways to compute features: dense, centred or both", "dense", **NAMES)
@option(
    "--encoder-weights",
    "Weights of the encoders, separated by commas; leave a place empty for the default weights",
    unset="those of each",
    metavar="FILE,…",
)
@choices("ingest", "register", "features", "fit")
@where
@click.pass_context
def rank(
    context: click.Context,
    /,
    manifest: str,
    out: str,
    encoders: tuple[str, ...],
    modes: tuple[str, ...],
    encoder_weights: str | None,
    **words: Any,
) -> None:
    from msiscale.pipeline.rank import rank as rank_encoders

    config, debug = configured(words), context.obj["debug"]
    weights = encoder_weights.split(",") if encoder_weights else ()
    found = rank_encoders(manifest, out, config, encoders, modes, weights, debug=debug, **words)
    for line in found:
        click.echo(line)


@cli.command(section=COHORT, help=stage_named("power").help)
@click.argument("url")
@option("--effect effects", "Effect sizes of a biomarker, as AUC", "0.6,0.7,0.8,0.9", **NUMBERS)
@option("--patients", "Cohort sizes, in patients", "3,4,6,8,10,15,20,30,50,100", **NUMBERS)
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
    help=f"{stage_named('fuse').help}\n\nEach method restores ion images that were degraded by "
    "--factors. The scores are in fusion.csv.",
)
@click.argument("manifest")
@option("--out", "Folder or URL of a run whose features are done", required=True, metavar="URL")
@option("--factors", "Whole factors by which the MSI is degraded", "2,4,8", **NUMBERS)
@option("--methods", "Methods to compare (see docs/fusion)", unset="all but pls_deep", **NAMES)
@option(
    "--ions", "Number of most structured ions to sharpen, or a list of m/z", "20", metavar="N|m/z,…"
)
@option(
    "--pixel-um",
    "Pixel size of the sharpened images, in µm",
    unset="a quarter of the MSI pixel",
    type=float,
)
@option("--scores-only", "Write the scores, but no sharpened images", is_flag=True)
@option(
    "--consistent",
    "Shift the parts of each MSI pixel so that their mean equals the measured value",
    is_flag=True,
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
    "--pixel-um",
    "Pixel size of the predicted maps, in µm",
    unset="the MSI pixel of the training",
    type=float,
)
@option("--slide-mpp", "Pixel size of slides whose files do not give it, in µm", type=float)
@option("--mz", "Also write predicted ion images of these m/z", unset="none", **NUMBERS)
@of_field(OPTIONS["region_probability"])
@of_field(OPTIONS["region_um2"])
@option(
    "--prevalence",
    "Fraction of tissue assumed to be cancer in these slides, which shifts the probabilities",
    unset="that of the training patients",
    type=float,
    metavar="P",
)
@moved_weights
@own_encoder
@where
@click.pass_context
def predict(context: click.Context, /, model: str, slides: tuple[str, ...], **words: Any) -> None:
    """Predict cancer and chemistry of SLIDES without MSI, with MODEL (the model.zarr of a run)."""
    from msiscale.pipeline.predict import predict as predict_slides

    failed = predict_slides(model, slides, debug=context.obj["debug"], **words)
    _told(context, failed, code=FAILED_SPECIMENS if len(failed) < len(slides) else 1)


@cli.command("ion-image", section=SLIDES)
@click.argument("prediction")
@option(
    "--mz", "Ions to predict, as m/z", unset="the best predicted ions of tiers A and B", **NUMBERS
)
@option(
    "--absent",
    "Lipids missing from the training, such as PC 34:1 [M+H]+, inferred from their lipid class",
    unset="none",
    **NAMES,
)
@option("--out", "Picture or array file to write", required=True, metavar="FILE.png|FILE.zarr")
def ion_image(
    prediction: str, mz: tuple[float, ...] | None, absent: tuple[str, ...] | None, out: str
) -> None:
    """Write predicted ion images, with bounds, from a PREDICTION (predictions.zarr/NAME)."""
    from msiscale.prediction import write_absent_images, write_ion_images

    if mz and absent:
        raise InputError("--mz and --absent are different kinds of image; give one of them")
    lines = (
        write_absent_images(prediction, absent, out)
        if absent
        else write_ion_images(prediction, mz or None, out)
    )
    for line in lines:
        click.echo(line, err=True)
    click.echo(out)


@cli.command(section=SLIDES)
@click.argument("name", required=False)
@option("--weights", "File or folder of weights to check", metavar="FILE|FOLDER", unset="none")
@option("--json as_json", "Print the list as JSON", is_flag=True)
def encoders(name: str | None, weights: str | None, as_json: bool) -> None:
    """List the encoders, or say how to get and check the weights of one."""
    from msiscale.features import listing

    if as_json:
        click.echo(json.dumps(listing.table(), indent=1, ensure_ascii=False))
        return
    if weights and not name:
        raise InputError(f"--weights {weights}: name the encoder that they are for")
    for line in listing.described(name) if name else listing.lines():
        click.echo(line)
    for line in listing.checked(name, weights) if name and weights else ():
        click.echo(line)


@cli.command("export", section=FORMATS)
@click.argument("run", metavar="RUN")
@option("--out", "Folder to write (for spatialdata, NAME.zarr)", required=True, metavar="URL")
@option(
    "--format",
    "Format to write (see docs/formats)",
    required=True,
    type=click.Choice(["ome-zarr", "spatialdata", "anndata", "parquet", "imzml", "geojson"]),
)
@option("--specimen specimens", "Export only this specimen; may be repeated", multiple=True)
@option(
    "--mz",
    "Ions to write, as m/z: as images (ome-zarr, spatialdata) or columns (parquet)",
    unset="the strongest ions as images, no columns",
    **NUMBERS,
)
@option("--slides/--no-slides", "Also write the H&E slides (ome-zarr)", True, unset="yes")
@click.pass_context
def export_results(context: click.Context, /, run: str, out: str, **words: Any) -> None:
    """Write the results of RUN (the --out of run or predict) in formats of other tools."""
    from msiscale.export import export

    done = export(run, out, **words)
    for url in done.written:
        click.echo(url)
    _told(context, done.left_out, " is not in it")


@cli.command(section=FORMATS)
@click.argument("slide")
@click.argument("url")
@option("--mpp", "Pixel size of the slide in µm, if its file does not give it", type=float)
def convert(slide: str, url: str, mpp: float | None) -> None:
    """Convert SLIDE to an OME-Zarr 0.5 pyramid at URL."""
    from msiscale.slide.convert import convert as convert_slide

    convert_slide(slide, url, mpp=mpp)
    click.echo(url)


@cli.command("config-schema", section=FORMATS)
def config_schema() -> None:
    """Print the JSON schema of config files, for editors and validators."""
    click.echo(json.dumps(schema(), indent=2, ensure_ascii=False))


@cli.command(section=TRUTH)
@option("--out", "Folder to write", "demo", metavar="DIR")
@option("--specimens", "Number of specimens, 4 or more", 6, type=click.IntRange(4))
@option("--seed", "Seed of the simulation", 0)
@where
@click.pass_context
def demo(context: click.Context, /, out: str, **words: Any) -> None:
    """Simulate a small cohort, run every stage on it, and write the report. Works offline."""
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
@option(
    "--pixels", "MSI rows and columns", unset="40 44, or what covers a given slide", type=(int, int)
)
@option("--pixel-um", "MSI pixel size, in µm", unset="100, or 50 on a given slide", type=float)
@option("--mpp", "Pixel size of the slides, in µm", 1.0)
@option("--null", "Place the annotation at random, so that there is nothing to find", is_flag=True)
@option("--slide", "Real slide on which to simulate MSI; may be repeated", multiple=True)
@option("--slide-mpp", "Pixel size of given slides whose files do not give it, in µm", type=float)
@option("--workers", "Number of processes", 1, type=click.IntRange(1))
def simulate(directory: str, **words: Any) -> None:
    """Simulate a cohort with known truth: imzML, slides, annotations, manifest and truth/."""
    from msiscale.simulate import simulate as write_cohort

    click.echo(write_cohort(directory, **{**words, "slide": words["slide"] or None}))
