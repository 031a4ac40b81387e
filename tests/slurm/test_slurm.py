"""The workflow on a real Slurm: the same bits as on one machine, and nothing lost in a failure.

`make test-slurm` runs it: as root, with slurmctld, slurmd, slurm-client and munge of Debian.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.slurm import cluster
from tests.slurm.cluster import Cluster
from tests.workspace import ROOT, Workspace, small

pytestmark = pytest.mark.slurm

# What the tests do not want to wait for, and what a Slurm without accounting needs.
OPTIONS = ["--profile", f"{ROOT}/workflow/profiles/slurm", "--slurm-no-account"]
OPTIONS += ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"]
OPTIONS += ["--latency-wait", "10", "--seconds-between-status-checks", "2", "--cores", "2"]
# Four jobs of several stacks each, so that a job can be caught in the middle.
LONG: dict[str, Any] = small(
    depth=[3, 33],
    width=[20, 21],
    initializer="he_normal",
    learning_rate=[0.1, 0.01, 0.001],
    epochs=60,
    seeds=4,
)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if lacks := cluster.missing():
        pytest.skip(lacks)
    found = Cluster(tmp_path_factory.mktemp("slurm"))
    yield found
    found.stop()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return what one machine makes."""
    workspace = Workspace(tmp_path_factory.mktemp("one_machine"))
    workspace.write_study(LONG)
    workspace.build()
    return contents(workspace.folder)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace(tmp_path)
    found.write_study(LONG)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """Return tables, claims and figures, but for what tells one training from another."""
    found = [*folder.glob("results/**/*.parquet"), *folder.glob("reports/**/*.json")]
    found += [*folder.glob("reports/**/*.csv"), *folder.glob("reports/**/*.svg")]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in found
        if not {"runs", "manifests"} & set(path.parts)
    }


def start(slurm: Cluster, workspace: Workspace, *more: str) -> subprocess.Popen[str]:
    """Start the workflow on the cluster, with its output in a file."""
    command, environment = workspace.command(*OPTIONS, *more)
    environment["PATH"] = slurm.environment["PATH"]
    with (workspace.folder / "said").open("a") as said:
        return subprocess.Popen(
            command, env=environment, stdout=said, stderr=subprocess.STDOUT, text=True
        )


def finish(slurm: Cluster, workspace: Workspace, *more: str) -> int:
    return start(slurm, workspace, *more).wait(timeout=3000)


def said(workspace: Workspace) -> str:
    return (workspace.folder / "said").read_text()


def train_something(slurm: Cluster, workspace: Workspace) -> list[str]:
    """Wait until a training job has finished a stack; return the Slurm jobs that run."""
    stacks = workspace.results / "stacks"
    slurm.wait("a finished stack", lambda: list(stacks.glob("*/*.zip")), 120)
    return slurm.running()


def test_the_default_configuration_gives_the_same_bits(slurm: Cluster, tmp_path: Path) -> None:
    one_machine, other = (Workspace(tmp_path / name) for name in ("one_machine", "cluster"))
    for workspace in (one_machine, other):
        shutil.copytree(ROOT / "config", workspace.folder / "config", dirs_exist_ok=True)
    one_machine.build("--cores", "4")
    assert finish(slurm, other) == 0, said(other)
    found = contents(one_machine.folder)
    assert len(found) > 100
    assert contents(other.folder) == found


def test_small_jobs_share_a_slurm_job(slurm: Cluster, workspace: Workspace) -> None:
    assert finish(slurm, workspace) == 0, said(workspace)
    assert said(workspace).count("Study tiny: training") == 4
    assert said(workspace).count("/slurm_logs/group_training_train/") == 1  # submitted


def test_a_node_is_killed(slurm: Cluster, workspace: Workspace, expected: dict[str, bytes]) -> None:
    running = start(slurm, workspace)
    train_something(slurm, workspace)
    (node, *_) = slurm.run("squeue", "-h", "-t", "running", "-o", "%N").split()
    slurm.kill(node)
    try:
        running.wait(timeout=900)
    finally:
        slurm.start(node)
    assert finish(slurm, workspace) == 0, said(workspace)
    assert contents(workspace.folder) == expected


def test_a_job_is_cancelled(
    slurm: Cluster, workspace: Workspace, expected: dict[str, bytes]
) -> None:
    running = start(slurm, workspace, "--retries", "0")
    for job in train_something(slurm, workspace):
        slurm.run("scancel", job)
    assert running.wait(timeout=900) != 0
    assert finish(slurm, workspace) == 0, said(workspace)
    assert contents(workspace.folder) == expected


def test_a_job_takes_more_memory_than_it_asked_for(
    slurm: Cluster, workspace: Workspace, expected: dict[str, bytes]
) -> None:
    small_memory = ["--set-resources", "train:mem_mb=400", "--retries", "0"]
    assert finish(slurm, workspace, *small_memory) != 0
    assert finish(slurm, workspace) == 0, said(workspace)
    assert contents(workspace.folder) == expected


def test_a_retry_asks_for_more_memory(
    slurm: Cluster, workspace: Workspace, expected: dict[str, bytes]
) -> None:
    assert finish(slurm, workspace, "--set-resources", "train:mem_mb=500*attempt*attempt") == 0
    assert contents(workspace.folder) == expected


def test_snakemake_is_killed_while_its_jobs_go_on(
    slurm: Cluster, workspace: Workspace, expected: dict[str, bytes]
) -> None:
    running = start(slurm, workspace)
    left = train_something(slurm, workspace)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert set(left) & set(slurm.running())
    command, environment = workspace.command("--unlock")
    subprocess.run(command, env=environment, check=True)
    assert finish(slurm, workspace) == 0, said(workspace)
    assert contents(workspace.folder) == expected
    trained = workspace.runs()
    assert finish(slurm, workspace) == 0
    assert workspace.runs() == trained
