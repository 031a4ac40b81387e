"""A manifest speaks of what its job read, made and was, and of nothing that came later."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gradprop import provenance
from gradprop.errors import GradpropError
from gradprop.results import manifests, products
from gradprop.results.manifests import ManifestError
from gradprop.spec import Shard


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Return a file that a job has made from another one; its manifest is `manifest_of` it."""
    path = tmp_path / "made.txt"
    path.write_text("made")
    (tmp_path / "read.txt").write_text("read")
    read = manifests.checksums([tmp_path / "read.txt"])
    manifests.write(manifest_of(path), [path], read, modules=["spec"])
    return path


def manifest_of(path: Path, digest: str = "now") -> Path:
    return manifests.path_of(path.parent / "manifests", path.stem, digest)


def test_what_is_right_stays(made: Path) -> None:
    assert manifests.discard_false([manifest_of(made)]) == []
    manifests.require(manifest_of(made), made)


def test_no_flipped_bit_of_a_manifest_goes_unseen(made: Path) -> None:
    path = manifest_of(made)
    content = path.read_bytes()
    for place, byte in enumerate(content):
        path.write_bytes(content[:place] + bytes([byte ^ 1]) + content[place + 1 :])
        with pytest.raises(GradpropError):
            manifests.read(path)


def test_an_input_that_changed_while_it_was_read_is_seen(made: Path) -> None:
    """The checksum is that of before, so that the next run makes the file again."""
    source = made.with_name("read.txt")
    read = manifests.checksums([source])
    source.write_text("edited while the job runs")
    manifests.write(manifest_of(made), [made], read)
    assert manifests.discard_false([manifest_of(made)]) == []  # an input goes without saying
    assert not manifest_of(made).exists()


def test_another_manifest_of_the_same_file_is_not_taken_for_it(made: Path) -> None:
    """As a job leaves it that outlived its Snakemake, and was asked for something else."""
    other = manifest_of(made, "before")
    shutil.copy(manifest_of(made), other)
    manifest_of(made).rename(made.with_name("kept"))
    with pytest.raises(ManifestError, match="no job has completed it"):
        manifests.require(manifest_of(made), made)
    assert manifests.last_of(manifest_of(made)) == other
    made.with_name("kept").rename(manifest_of(made))
    assert manifests.discard_false([manifest_of(made)]) == []
    assert not other.exists()


def test_a_file_that_cannot_be_read_is_damaged(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("gradprop.files.checksum", fail)
    assert manifests.discard_false([manifest_of(made)]) == [
        f"{made}: damaged or edited; it is made again"
    ]


def test_tables_of_shards_that_left_the_grid_go(tmp_path: Path) -> None:
    for shard in ("one", "two"):
        path = tmp_path / f"layers/{shard}.parquet"
        path.parent.mkdir(exist_ok=True)
        path.write_text(shard)
        manifests.write(manifests.path_of(tmp_path / products.FOLDER, shard, "digest"), [path])
    (tmp_path / "stacks/two").mkdir(parents=True)
    outside = tmp_path.with_suffix(".txt")
    outside.write_text("not a table")
    foreign = {"files": {f"../../{outside.name}": ""}}
    (tmp_path / products.FOLDER / "two.digest.json").write_text(json.dumps(foreign))
    products.forget_tables(tmp_path, [Shard("one", ())])
    assert [path.stem for path in tmp_path.glob("layers/*")] == ["one"]
    assert len(list((tmp_path / products.FOLDER).iterdir())) == 1
    assert (tmp_path / "stacks/two").exists()
    assert outside.exists()


def test_an_edit_while_a_job_runs_is_not_what_the_job_ran(tmp_path: Path) -> None:
    copy = tmp_path / "gradprop"
    shutil.copytree(provenance.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    code = """
from gradprop import provenance
def digests():
    names = ["probes/statistics"]
    return provenance.sources_digest(names), provenance.code_digest(names)
before = digests()
path = provenance.PACKAGE / "probes/statistics.py"
path.write_text(path.read_text() + "\\nEDITED = 1\\n")
assert digests() == before
print(*before)
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    first, second = (
        subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(2)
    )
    assert not set(first) & set(second)
