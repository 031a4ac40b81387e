"""A real Slurm of two nodes on one machine: no systemd, no cgroups, no accounting."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

# Where the programs of Slurm look: the jobs inherit no variable that names another file.
HERE = Path("/etc/slurm/slurm.conf")
NODES = ("one", "two")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")

CONFIGURATION = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SlurmdParameters=config_overrides
SlurmdTimeout=10
KillWait=2
ReturnToService=2
PartitionName=main Nodes=one,two Default=YES MaxTime=INFINITE State=UP
"""
NODE = """\
NodeName={name} NodeAddr=127.0.0.1 NodeHostname={host} Port={port} CPUs=2 RealMemory={memory}
"""


def missing() -> str:
    """Return what this machine lacks for a cluster; empty if nothing."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if absent:
        return f"no {', '.join(absent)}: apt-get install slurmctld slurmd slurm-client munge"
    if HERE.exists() and not HERE.is_symlink():
        return f"this machine has a Slurm of its own ({HERE})"
    return "" if os.geteuid() == 0 else "only root can start Slurm"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """The daemons of the cluster, which live until `stop`; `folder` holds all of their files."""

    def __init__(self, folder: Path, memory: int = 10_000) -> None:
        self.folder = folder
        folder.chmod(0o755)  # or munged does not trust it
        host = socket.gethostname()
        text = CONFIGURATION.format(host=host, port=free_port(), folder=folder)
        for name in NODES:
            text += NODE.format(name=name, host=host, port=free_port(), memory=memory)
        (folder / "slurm.conf").write_text(text)
        HERE.unlink(missing_ok=True)
        HERE.symlink_to(folder / "slurm.conf")
        self.environment = {
            **os.environ,
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        }
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        files = {"key": "key", "socket": "socket", "pid": "pid", "log": "log", "seed": "seed"}
        options = [
            f"--{option}{'' if option == 'socket' else '-file'}={folder}/munge.{ending}"
            for option, ending in files.items()
        ]
        self.run("munged", "--force", *options)
        self.run("slurmctld")
        for name in NODES:
            self.start(name)
        self.wait("the nodes to be idle", lambda: self.run("sinfo", "-h", "-o", "%T") == "idle")

    def run(self, *command: str) -> str:
        """Run a command of Slurm and return what it prints."""
        result = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{command}: {result.stderr}"
        return result.stdout.strip()

    def start(self, node: str) -> None:
        """Start a node."""
        self.run("slurmd", "-N", node)

    def kill(self, node: str) -> None:
        """Kill a node and all that runs on it, as a failure of its power would."""
        jobs = self.run("squeue", "-h", "-w", node, "-t", "running", "-o", "%A").split()
        os.kill(int((self.folder / f"slurmd.{node}.pid").read_text()), signal.SIGKILL)
        for job in jobs:
            end_all_of(job)

    def running(self) -> list[str]:
        """Return the ids of the jobs that run."""
        return self.run("squeue", "-h", "-t", "running", "-o", "%A").split()

    @staticmethod
    def wait(what: str, condition: object, seconds: float = 60) -> None:
        """Wait until something is so."""
        assert callable(condition)
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited in vain for {what}"
            time.sleep(0.2)

    def stop(self) -> None:
        """End all jobs and daemons."""
        self.run("scancel", "--full", "--user", "root")
        for name in ("slurmctld", *(f"slurmd.{node}" for node in NODES), "munge"):
            path = self.folder / f"{name}.pid"
            if path.exists():
                os.kill(int(path.read_text()), signal.SIGTERM)
        HERE.unlink()


def end_all_of(job: str) -> None:
    """Kill the processes of a Slurm job and those that watch over it."""
    marks = (f"SLURM_JOB_ID={job}".encode(), f"SLURM_JOBID={job}".encode())
    for entry in Path("/proc").iterdir():
        try:
            held = (entry / "environ").read_bytes().split(b"\0")
            name = (entry / "cmdline").read_bytes()
        except OSError:  # it has ended, or is none
            continue
        if not set(marks).isdisjoint(held) or name.startswith(f"slurmstepd: [{job}.".encode()):
            os.kill(int(entry.name), signal.SIGKILL)
