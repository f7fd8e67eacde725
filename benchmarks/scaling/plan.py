"""How long a cohort of many specimens is planned: before the first task, and when all is done.

One tiny specimen is run for real; the others are its copies under other names: their rows name the
same files, and their results and records are what a run of them would have left.
"""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from distributed import Client, get_task_stream

from benchmarks.common.progress import Progress
from benchmarks.scaling.workers import CHOICES, STAGES, imports
from msiscale.cluster import connect
from msiscale.config import RunConfig
from msiscale.pipeline import run
from msiscale.simulate import simulate

FIRST = "S01"
COUNT = 1000  # specimens
STEPS = 6
MOST_S = 300.0  # until the first task, or the benchmark fails


def measure(folder: Path, progress: Progress, count: int = COUNT) -> dict[str, float]:
    """Seconds until each stage's first task runs, their sum, and of a run with nothing to do.

    Before its cubes a cohort gets its m/z axis, which counts here as the cubes' planning.
    """
    progress("a run to copy")
    seed = simulate(folder / "one", specimens=1, pixels=(16, 16), pixel_um=100.0)
    names = [FIRST, *(f"C{i:05d}" for i in range(1, count))]
    manifest = copies(Path(seed), names)
    done = folder / "done"
    found: dict[str, float] = {}
    with connect(workers=1) as client:
        address = client.scheduler_info()["address"]
        client.run(imports)
        for stage in STAGES:
            _call(seed, str(done), address, stage)
        for stage, kind, keep in (
            ("ingest", "peaks", lambda path: False),
            ("ingest", "ingest", _peaks_done),
            ("register", "register", _before("register")),
            ("features", "features", _before("features")),
        ):
            progress(f"planning {count} specimens: {kind}")
            out = folder / f"fresh-{kind}"
            replicate(done, out, names, keep)
            found[f"plan.{kind}_seconds_{count}_specimens"] = first_task(
                client, manifest, out, stage, kind
            )
            shutil.rmtree(out)
        progress(f"planning {count} specimens of which all are done")
        out = folder / "all"
        replicate(done, out, names, lambda path: True)
        _call(str(manifest), str(out), address, "ingest")  # the axis is of all of them now
        began = time.perf_counter()
        with get_task_stream(client) as stream:
            for stage in STAGES:
                _call(str(manifest), str(out), address, stage)
        again = [r["key"] for r in stream.data if not r["key"].startswith("encoder")]
        if again:
            raise RuntimeError(f"{len(again)} tasks ran where all was done, such as {again[0]}")
        found[f"plan.done_seconds_{count}_specimens"] = time.perf_counter() - began
    kinds = ("peaks", "ingest", "register", "features")
    found[f"plan.seconds_{count}_specimens"] = sum(
        found[f"plan.{kind}_seconds_{count}_specimens"] for kind in kinds
    )
    return found


def copies(manifest: Path, names: list[str]) -> Path:
    """A manifest of specimens by these names that all have the files of the one in `manifest`."""
    with manifest.open(newline="") as file:
        reader = csv.DictReader(file)
        row, columns = next(reader), reader.fieldnames
    target = manifest.with_name("copies.csv")
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns or ())
        writer.writeheader()
        for name in names:
            writer.writerow({**row, "specimen": name, "patient": name})
    return target


def replicate(source: Path, out: Path, names: list[str], keep: Callable[[Path], bool]) -> None:
    """`out` as a run of all `names` would have left it; `keep` says which files are there yet."""
    files = [f.relative_to(source) for f in source.rglob("*") if f.is_file()]
    for file in filter(keep, files):
        own = any(part in (FIRST, f"{FIRST}.json") for part in file.parts)
        data = (source / file).read_bytes()
        for name in names if own else (FIRST,):
            target = out.joinpath(
                *(name + p.removeprefix(FIRST) if p in (FIRST, f"{FIRST}.json") else p
                  for p in file.parts)
            )  # fmt: skip
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


def first_task(client: Client, manifest: Path, out: Path, stage: str, kind: str) -> float:
    """Seconds from the call of a stage, in a process of its own, to its first task on a worker."""
    address = client.scheduler_info()["address"]
    command = [sys.executable, "-m", "benchmarks.scaling.plan", str(manifest), str(out)]
    client.get_task_stream(count=0)  # the scheduler records from here on
    with subprocess.Popen(
        [*command, address, stage], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        began = float(child.stdout.readline() or "nan")
        try:
            while time.time() - began < MOST_S and child.poll() is None:
                for record in client.get_task_stream(start=began):
                    if record["key"].startswith(f"{kind}-"):
                        return float(min(s["start"] for s in record["startstops"]) - began)
                time.sleep(0.2)
        finally:
            child.send_signal(signal.SIGINT)
            said = child.communicate(timeout=120)[1]
    raise RuntimeError(f"no task of {kind} within {MOST_S:.0f} s: {said[-500:]}")


def _peaks_done(path: Path) -> bool:
    """What is there when the sums over the spectra are made, and nothing else is."""
    return "axis" not in path.parts and (path.parts[0] == "state.zarr" or "peaks" in path.parts)


def _before(stage: str) -> Callable[[Path], bool]:
    """Without the records of a stage and without its arrays."""
    return lambda path: not {stage, "coverage"} & set(path.parts)


def _call(manifest: str, out: str, address: str, stage: str) -> None:
    run(manifest, out, config=RunConfig(**CHOICES), scheduler=address, stages=(stage,))


def main() -> None:
    """One stage, begun when its time is printed."""
    manifest, out, address, stage = sys.argv[1:]
    print(time.time(), flush=True)
    _call(manifest, out, address, stage)


if __name__ == "__main__":
    main()
