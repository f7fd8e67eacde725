"""A SLURM of one node on loopback: Debian's slurmctld, slurmd and munge, in a folder of their own.

Nothing of the machine's configuration is read or written: the daemons and the commands get theirs
by `Slurm.env`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.services import free_port

DAEMONS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scancel", "scontrol")
PACKAGES = "slurmctld slurmd slurm-client munge"
ENDED = ("COMPLETED", "CANCELLED", "TIMEOUT", "FAILED", "NODE_FAIL")

# more CPUs than the machine may have, as the tests' jobs mostly wait; memory as it is said, not as
# it is found; a job that is told to end has three seconds
CONFIGURATION = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
PluginDir={plugins}
PlugStackConfig={folder}/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
KillWait=3
MinJobAge=3600
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=64000 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Slurm:
    """A running SLURM."""

    folder: Path
    env: dict[str, str]

    def tell(self, *command: str) -> str:
        """What a command of SLURM says."""
        done = subprocess.run(
            command, env=os.environ | self.env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def jobs(self, *states: str) -> dict[str, str]:
        """State of each job that was ever submitted, by number; or of those in some states."""
        said = self.tell("squeue", "--noheader", "--states=all", "--format=%A %T")
        found = dict(line.split() for line in said.splitlines())
        return {job: state for job, state in found.items() if not states or state in states}

    def alive(self) -> dict[str, str]:
        """Jobs that wait, run, or are on their way out."""
        return {job: state for job, state in self.jobs().items() if state not in ENDED}

    def until(self, true: Callable[[], object], seconds: float) -> bool:
        """Whether it came true in time."""
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end:
                return False
            time.sleep(0.5)
        return True


def missing_slurm() -> str | None:
    """Why SLURM cannot be started here, or None."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    absent = [name for name in DAEMONS if shutil.which(name, path=path) is None]
    if absent:
        return f"SLURM lacks {', '.join(absent)}: apt-get install {PACKAGES}"
    if os.geteuid() != 0:
        return "slurmd starts jobs for others and needs root"
    return None


@contextmanager
def slurm_node(folder: Path, *, cpus: int = 8) -> Iterator[Slurm]:
    """SLURM in a new folder, stopped at the end with all its jobs."""
    folder.mkdir(parents=True)
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    file, key = folder / "slurm.conf", folder / "munge.key"
    (plugins,) = (p.parent for p in Path("/usr/lib").glob("*/slurm*/auth_munge.so"))
    file.write_text(
        CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0],
            ports=(free_port(), free_port()),
            folder=folder,
            plugins=plugins,
            cpus=cpus,
        )
    )
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    slurm = Slurm(folder, {"SLURM_CONF": str(file)})
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    environment = os.environ | slurm.env | {"PATH": path}
    munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket"]
    munged += [f"--key-file={key}", f"--pid-file={folder}/munged.pid"]
    munged += [f"--seed-file={folder}/munged.seed", f"--log-file={folder}/munged.log"]
    daemons: list[subprocess.Popen[bytes]] = []
    with (folder / "daemons.log").open("wb") as log:

        def start(*command: str) -> None:
            daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

        try:
            start(*munged)
            assert slurm.until((folder / "munge.socket").exists, 20), folder
            start("slurmctld", "-D", "-f", str(file))
            start("slurmd", "-D", "-f", str(file))
            assert slurm.until(lambda: _idle(slurm), 60), folder
            yield slurm
        finally:
            with suppress(Exception):
                slurm.tell("scancel", "--full", *slurm.alive())
                slurm.until(lambda: not slurm.alive(), 30)
            for daemon in reversed(daemons):
                daemon.terminate()
            for daemon in daemons:
                try:
                    daemon.wait(20)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()


def _idle(slurm: Slurm) -> bool:
    with suppress(AssertionError):
        return "idle" in slurm.tell("sinfo", "--noheader", "--format=%T")
    return False
