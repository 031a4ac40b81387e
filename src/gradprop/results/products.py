"""What the workflow makes, and where the manifest of each product lies.

The name of a manifest holds the digest of what was asked for. It is known before anything is made:
Snakemake plans with these names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from gradprop.components import datasets
from gradprop.grid.sharding import shard_digest
from gradprop.results import manifests
from gradprop.spec import NUMERICS, Component, Shard, Study, digest

FOLDER = "manifests"


def dataset(folder: Path, component: Component) -> Path:
    """Return the manifest of a data set; `folder` is ``<results>/data``."""
    code = datasets.facts(component).code
    asked = digest([component.label, NUMERICS, *([code] if code else [])])
    return manifests.path_of(folder / FOLDER, component.slug, asked)


def tables(folder: Path, shard: Shard) -> Path:
    """Return the manifest of a shard's tables; `folder` holds the results of the study."""
    return manifests.path_of(folder / FOLDER, shard.name, shard_digest(shard))


def forget_tables(folder: Path, known: Iterable[Shard]) -> None:
    """Remove the tables of shards that are not among those known; their stacks stay.

    Whoever reads a whole folder of tables would take them for rows of the grid.
    """
    names = {shard.name for shard in known}
    for path in (folder / FOLDER).glob("*.json"):
        shard = path.name.rsplit(".", 2)[0]
        if shard not in names:
            for table in folder.glob(f"*/{shard}.parquet"):  # a manifest may be damaged
                table.unlink()
            path.unlink()


def figures(reports: Path, study: Study) -> Path:
    """Return the manifest of a study's figures."""
    return manifests.path_of(reports / FOLDER / "figures", study.name, digest(study.definition))


def claims(reports: Path, study: Study) -> Path:
    """Return the manifest of a study's claims, diagnoses and alarms."""
    return manifests.path_of(reports / FOLDER / "claims", study.name, digest(study.definition))


def require_claims(path: Path) -> None:
    """Raise an error unless ``<reports>/claims/<study>.json`` is what its last job wrote."""
    asked = manifests.path_of(path.parent.parent / FOLDER / "claims", path.stem, "any")
    manifests.require(manifests.last_of(asked), path, path.stem)


def report(reports: Path, studies: Sequence[Study], name: str, title: str, command: str) -> Path:
    """Return the manifest of a report."""
    asked = digest([[study.definition for study in studies], title, command])
    return manifests.path_of(reports / FOLDER / "report", Path(name).stem, asked)
