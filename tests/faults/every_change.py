"""Kill a training job before every change that it makes to the file system, one after the other.

Run as a program: TensorFlow is imported once, and every job is a fork of this process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from gradprop.training import environment

environment.fix()

from gradprop import files, jobs  # noqa: E402
from gradprop.components import datasets  # noqa: E402
from gradprop.grid import loading, sharding  # noqa: E402
from gradprop.results import manifests, products  # noqa: E402
from gradprop.spec import Shard  # noqa: E402
from tests.workspace import small  # noqa: E402

CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "shutil.rmtree"}
SIZE = 2  # cells of a stack


def changes(event: str, arguments: tuple[Any, ...]) -> bool:
    """Tell whether an event that Python reports changes a file or a folder."""
    if event != "open":
        return event in CHANGES
    _, mode, flags = arguments
    written = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    return bool(written or (isinstance(mode, str) and set(mode) & set("wax+")))


def train(shard: Shard, folder: Path, kill_at: int) -> int:
    """Train in a process of its own, killed before change `kill_at`; return the changes it made."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        os.waitpid(child, 0)
        with open(reader) as counts:  # noqa: PTH123
            return len(counts.read())

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if changes(event, arguments):
            if written[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            written[0] += 1
            os.write(writer, b".")

    written = [0]
    sys.addaudithook(watch)
    data = folder.parent / "data" / f"{shard.cells[0].dataset.slug}.npz"
    jobs.train_shard(shard, folder, data, stack_size=SIZE)
    os._exit(0)


def tables(folder: Path) -> dict[str, bytes]:
    """Return all tables but the runs, which name the CPU time."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.glob("*/*.parquet")
        if path.parent.name != "runs"
    }


def main(root: Path) -> None:
    """Print how many changes there were, and at which the next job did not make it right."""
    content = small(initializer=["he_normal", "zeros"], seeds=2)
    study = loading.build_study("small", content, seeds=1, source="small.yaml")
    (shard,) = sharding.shards(study.cells).values()
    datasets.write(shard.cells[0].dataset, root / "data" / f"{shard.cells[0].dataset.slug}.npz")
    total = train(shard, root / "undisturbed", kill_at=-1)
    expected, wrong = tables(root / "undisturbed"), []
    for number in range(total):
        folder = root / str(number)
        assert train(shard, folder, kill_at=number) == number
        manifest = products.tables(folder, shard)
        left_true = manifests.discard_false([manifest]) == []
        files.remove_leftovers(folder)  # as the workflow does when it starts
        train(shard, folder, kill_at=-1)
        whole = manifests.discard_false([manifest]) == [] and manifest.exists()
        left = [path for path in folder.rglob(".*") if path.name != ".lock"]
        if not (left_true and whole and tables(folder) == expected and not left):
            wrong.append(number)
    print(json.dumps({"changes": total, "tables": len(expected), "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
