"""Where the faults happen: a phantom cohort, an object store, a scheduler with workers, a command.

Everything is real (`deploy.services`): processes that can be killed, an S3 server behind a proxy
that can fail, a network namespace behind a link that can be cut.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import obstore
from obstore.store import LocalStore

from benchmarks.common.places import until
from benchmarks.faults.network import Namespace, namespace
from benchmarks.faults.proxy import FaultProxy
from deploy.services import S3, Cluster, dask_cluster
from msiscale.simulate import simulate

STAGES = ("ingest", "register", "features", "fit", "biomarkers", "report")
PIXELS, MPP = (20, 22), 4.0
# coarse and few, so that a run takes seconds; blocks of 12 pixels give a specimen four tasks
CHOICES = (
    *("--encoder", "efficientnet-lite0", "--mpp", "4", "--window", "512", "--block", "12"),
    *("--components", "8", "--alphas", "1,100", "--costs", "0.01"),
)
MEMORY = 3 << 30  # of a worker; one that holds an encoder needs 1 GiB
BUCKET = "faults"
TCP_TIMEOUT = "12s"  # after which a connection over a cut link is given up; Dask takes 11 s or more
NO_LINKS = (sys.executable, "-m", "benchmarks.faults.nolinks")
NO_LINKS_HERE = Path(__file__).parent / "nolinks.py"
TALLY = Path(__file__).with_name("tally.py")


@dataclass
class Running:
    """A ``msiscale run``, and what it has said so far."""

    process: subprocess.Popen[bytes]
    log: Path
    began: float = field(default_factory=time.monotonic)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def reached(self, stage: str) -> bool:
        """Whether the line that opens the stage has come."""
        return f"msiscale: {stage} (" in self.said()

    def past(self, stage: str) -> bool:
        """Whether a later stage has begun, or the command has ended."""
        later = STAGES[STAGES.index(stage) + 1 :]
        return self.process.poll() is not None or any(self.reached(s) for s in later)

    def await_stage(self, stage: str, seconds: float) -> bool:
        """Wait for the stage's line; False where the command ended or took too long."""
        until(lambda: self.reached(stage) or self.process.poll() is not None, seconds)
        return self.reached(stage)

    def await_past(self, stage: str, seconds: float) -> None:
        """Wait until the stage is over, whatever came of it, at most so long."""
        until(lambda: self.past(stage), seconds)

    def wait(self, seconds: float) -> int | None:
        """Exit status; None where it did not end, and was killed."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            return None


@dataclass(frozen=True)
class Way:
    """How the runs of a case are started, and where their output is."""

    cluster: Cluster
    manifest: str
    prefix: tuple[str, ...] = ()  # words before the command
    local: bool = False  # the output, whatever the other cases have
    folders: tuple[Path, Path] | None = None  # of the first run and of others: relative paths


@dataclass
class Stand:
    """The cohort, its files and the cluster that the cases share."""

    folder: Path
    manifest: str
    cluster: Cluster
    env: Mapping[str, str]
    s3: S3 | None = None
    proxy: FaultProxy | None = None
    net: Namespace | None = None
    net_cluster: Cluster | None = None
    linkless: Cluster | None = None
    workers: int = 2
    runs: int = 0
    stack: ExitStack = field(default_factory=ExitStack)

    def new_out(self, name: str, *, local: bool = False) -> tuple[str, Any]:
        """URL of an output that is not there yet, and the same as an obstore store."""
        if self.s3 is None or local:
            folder = self.folder / name
            folder.mkdir(parents=True)
            return str(folder), LocalStore(folder)
        # not through the proxy: what is there, whatever it does
        return f"s3://{BUCKET}/{name}", self.s3.store(BUCKET, prefix=name)

    def beat(self, out: str) -> int:
        """Of the newest lease on an output; -1 where it was given back."""
        if out.startswith("s3://"):
            assert self.s3 is not None
            store: Any = self.s3.store(BUCKET, prefix=out.removeprefix(f"s3://{BUCKET}/"))
        else:
            store = LocalStore(out)
        newest = max(m["path"] for batch in obstore.list(store, "lease") for m in batch)
        return int(json.loads(bytes(obstore.get(store, newest).bytes()))["beat"])

    def way(self, place: str = "any") -> Way:
        """How runs are started for a fault of `Injection.place`."""
        if place == "net":
            return Way(self.networked()[0], self.manifest)
        if place == "nolinks":
            return Way(self._without_links(), self._here, NO_LINKS, local=True)
        if place == "folder":
            folders = self.folder / "here", self.folder / "there" / "below"
            return Way(self.cluster, self._here, local=True, folders=folders)
        manifest = self._here if place == "local" else self.manifest
        return Way(self.cluster, manifest, local=place in ("disk", "local"))

    @property
    def _here(self) -> str:
        return str(self.folder / "cohort" / "manifest.csv")

    def _without_links(self) -> Cluster:
        """A cluster whose workers get no hard links."""
        if self.linkless is None:
            made = dask_cluster(
                self.folder / "nolinks",
                workers=0,
                env={**self.env, "FAULTS_TALLY": str(self.folder / "tally")},
                memory_limit=str(MEMORY),
                scheduler_words=["--preload", str(TALLY)],
            )
            self.linkless = self.stack.enter_context(made)
            for _ in range(self.workers):
                self.linkless.add_worker(
                    env={"DASK_DISTRIBUTED__WORKER__PRELOAD": str(NO_LINKS_HERE)}
                )
            self.linkless.wait()
        return self.linkless

    def start(self, out: str, way: Way | None = None, *, again: bool = False) -> Running:
        """The command, as a user types it, with a process group of its own."""
        way = way or self.way()
        self.runs += 1
        log = self.folder / f"run-{self.runs}.log"
        manifest, folder = way.manifest, way.folders[again] if way.folders else None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            manifest, out = (os.path.relpath(path, folder) for path in (manifest, out))
        command = [*way.prefix, str(Path(sys.executable).parent / "msiscale"), "run", manifest]
        command += ["--out", out, "--scheduler", way.cluster.address, *CHOICES]
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
                start_new_session=True,
            )
        return Running(process, log)

    def tally(self) -> int:
        """Where the list of finished tasks ends now."""
        file = self.folder / "tally"
        return file.stat().st_size if file.exists() else 0

    def finished(self, since: int) -> Counter[str]:
        """How often each task has run to its end since then."""
        file = self.folder / "tally"
        if not file.exists():
            return Counter()
        text = file.read_bytes()[since:].decode()
        keys = (line.split(" ", 1)[1] for line in text.splitlines() if line.startswith("memory "))
        return Counter(_plain(key) for key in keys)

    def networked(self) -> tuple[Cluster, Namespace]:
        """A cluster of one worker here and one in a namespace of its own."""
        if self.net is None or self.net_cluster is None:
            self.net = self.stack.enter_context(namespace())
            env = {**self.env, "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": TCP_TIMEOUT}
            if self.proxy is not None:
                env["AWS_ENDPOINT_URL"] = self.proxy.listen(self.net.here)
            cluster = dask_cluster(
                self.folder / "net",
                workers=0,
                env={**env, "FAULTS_TALLY": str(self.folder / "tally")},
                host=self.net.here,
                memory_limit=str(MEMORY),
                scheduler_words=["--preload", str(TALLY)],
            )
            self.net_cluster = self.stack.enter_context(cluster)
        self.mend_network()
        return self.net_cluster, self.net

    def mend(self, cluster: Cluster) -> None:
        """As many workers as at first."""
        if cluster is self.net_cluster:
            self.mend_network()
        elif cluster is self.linkless:
            cluster.wait()
        else:
            cluster.mend(self.workers)

    def mend_network(self) -> None:
        """One worker on either side of the link, both at work."""
        assert self.net is not None and self.net_cluster is not None
        self.net.restore()
        for worker in list(self.net_cluster.workers):
            if not worker.alive:
                self.net_cluster.workers.remove(worker)
        prefixes = [w.nanny.args[:2] for w in self.net_cluster.workers]  # type: ignore[index]
        if ["ip", "netns"] not in prefixes:
            self.net_cluster.add_worker(host=self.net.there, prefix=self.net.prefix)
        if len(self.net_cluster.workers) < 2:
            self.net_cluster.add_worker()
        self.net_cluster.wait()


def _plain(key: str) -> str:
    """A task's key without what is drawn or counted anew in every run."""
    return re.sub(r"-\d+$", "", re.sub(r"[0-9a-f]{8}-?[0-9a-f-]{8,}", "#", key))


@contextmanager
def stand(
    folder: Path, server: S3 | None = None, *, pixels: tuple[int, int] = PIXELS
) -> Iterator[Stand]:
    """The stand, in a new folder.

    Parameters
    ----------
    server
        Holds manifest, inputs and outputs; without one they are in `folder`.
    pixels
        MSI rows and columns of each of the three specimens.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True)
    simulate(folder / "cohort", specimens=3, seed=1, pixels=pixels, mpp=MPP)
    with ExitStack() as stack:
        proxy = None
        manifest, env = str(folder / "cohort" / "manifest.csv"), {}
        if server is not None:
            server.make_bucket(BUCKET)
            proxy = stack.enter_context(FaultProxy(server.endpoint))
            manifest = upload(server, folder / "cohort")
            env = {**server.env, "AWS_ENDPOINT_URL": proxy.url}
        cluster = dask_cluster(
            folder / "dask",
            env={**env, "FAULTS_TALLY": str(folder / "tally")},
            memory_limit=str(MEMORY),
            scheduler_words=["--preload", str(TALLY)],
        )
        running = stack.enter_context(cluster)
        yield Stand(folder, manifest, running, env, server, proxy, stack=stack)


def upload(server: S3, cohort: Path) -> str:
    """Copy a cohort's folder into the bucket; the URL of its manifest."""
    store = server.store(BUCKET)
    for path in sorted(p for p in cohort.rglob("*") if p.is_file()):
        name = f"{cohort.name}/{path.relative_to(cohort).as_posix()}"
        if "truth" not in path.parts:
            obstore.put(store, name, path)
    return f"s3://{BUCKET}/{cohort.name}/manifest.csv"


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """A file system of its own with so much room (needs root)."""
    folder.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def missing_mount(folder: Path) -> str | None:
    """Why no small disk can be made here, or None."""
    probe = folder / "probe"
    try:
        with small_disk(probe, 1):
            return None
    except (OSError, RuntimeError) as error:
        return f"a small disk needs root and mount: {error}"


def _mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
