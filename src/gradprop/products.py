"""What the workflow makes, and where the manifest of each product lies.

The name of a manifest holds the digest of what was asked for. It is known before anything is made:
Snakemake plans with these names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gradprop import manifests
from gradprop.grid import shard_digest
from gradprop.spec import NUMERICS, Component, Shard, Study, digest

FOLDER = "manifests"


def dataset(folder: Path, component: Component) -> Path:
    """Return the manifest of a data set; `folder` is ``<results>/data``."""
    asked = digest([component.label, NUMERICS])
    return manifests.path_of(folder / FOLDER, component.slug, asked)


def tables(folder: Path, shard: Shard) -> Path:
    """Return the manifest of a shard's tables; `folder` holds the results of the study."""
    return manifests.path_of(folder / FOLDER, shard.name, shard_digest(shard))


def figures(reports: Path, study: Study) -> Path:
    """Return the manifest of a study's figures."""
    return manifests.path_of(reports / FOLDER / "figures", study.name, digest(study.definition))


def claims(reports: Path, study: Study) -> Path:
    """Return the manifest of a study's claims, diagnoses and alarms."""
    return manifests.path_of(reports / FOLDER / "claims", study.name, digest(study.definition))


def require_claims(path: Path) -> None:
    """Raise an error unless ``<reports>/claims/<study>.json`` is what its job wrote."""
    manifests.require(path.parent.parent / FOLDER / "claims", path.stem, path)


def report(reports: Path, studies: Sequence[Study], name: str, title: str, command: str) -> Path:
    """Return the manifest of a report."""
    asked = digest([[study.definition for study in studies], title, command])
    return manifests.path_of(reports / FOLDER / "report", Path(name).stem, asked)
