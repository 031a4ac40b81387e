"""A study is a folder: where it is looked for, and what may lie in it.

``<studies>/<name>/`` holds ``study.yaml`` and, each if the study has it: ``claims.py`` (claims and
the numbers of the prose), ``chapter.md.j2`` (the prose), ``opening.md.j2`` (with which a report can
open), ``components.py`` (own initializers, activations, data sets, optimizers, statistics),
``network.py`` (which builds its networks), ``figures.py`` (own kinds of figures),
``references.bib``, modules that these import, and files of data. No list names the studies: they
are found by looking.
are found by looking.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from gradprop import errors, provenance
from gradprop.components import network, own
from gradprop.errors import ConfigError

STUDIES = Path("config/studies")
STYLE = Path("config/figures.mplstyle")
# Where configuration and delivered studies lie if not in the working directory.
PROJECT = provenance.PACKAGE.parents[1]

STUDY, REFERENCES = "study.yaml", "references.bib"
CLAIMS, CHAPTER, COMPONENTS, FIGURES = "claims.py", "chapter.md.j2", "components.py", "figures.py"
OPENING = "opening.md.j2"
# What a chapter is made from, besides its references: its prose and the numbers in it.
OF_CHAPTER = (CHAPTER, OPENING, CLAIMS)


def roots(directory: Path = Path(), project: Path = PROJECT) -> list[Path]:
    """Return the folders in which studies are looked for; the first one that has a study counts."""
    return [directory / STUDIES, project / STUDIES]


def styles(directory: Path = Path(), project: Path = PROJECT) -> list[Path]:
    """Return the files that say how figures look; the first one that is there counts."""
    return [directory / STYLE, project / STYLE]


def names(folders: Sequence[Path]) -> list[str]:
    """Return the names of all studies in these folders."""
    found = {path.parent.name for folder in folders for path in folder.glob(f"*/{STUDY}")}
    return sorted(found)


def find(name: str, folders: Sequence[Path], source: str) -> Path:
    """Return the folder of a study.

    Parameters
    ----------
    name
        The study's.
    folders
        Where studies are looked for, in order.
    source
        Where the study is named, for messages.

    Raises
    ------
    gradprop.errors.ConfigError
        If there is none, or the study is not a folder yet.
    """
    for parent in folders:
        if os.path.lexists(parent / name):  # a broken link is told when it is read
            return parent / name
        if os.path.lexists(old := parent / f"{name}.yaml"):
            new = parent / name
            raise ConfigError(
                f"{old}: a study is a folder now; to move it: mkdir {new} && mv {old} {new / STUDY}"
            )
    raise errors.unknown("studies", name, names(folders), source)


def own_files(folder: Path | None, *wanted: str) -> list[Path]:
    """Return what a step depends on of a study's own files: those wanted, and helping modules.

    A file that is not there is named too: once it is there, the step has to be done again.
    """
    if folder is None:  # a study that is none of the disk
        return []
    return [*(folder / name for name in wanted), *helping_modules(folder)]


def reference_files(folder: Path | None) -> list[Path]:
    """Return the files of references of a study: beside all studies, the project's, its own.

    They need not exist.
    """
    project = PROJECT / STUDIES.parent / REFERENCES
    if folder is None:
        return [project]
    beside = folder.parent.parent / REFERENCES
    same = beside.resolve() == project.resolve()
    return [beside, *([] if same else [project]), folder / REFERENCES]


def helping_modules(folder: Path) -> Iterator[Path]:
    """Return the modules of a study's folder that only its other modules import."""
    known = (CLAIMS, COMPONENTS, FIGURES, network.FILE)
    return (path for path in sorted(folder.glob("*.py")) if path.name not in known)


def load_components(folder: Path | None) -> None:
    """Let the registries know the own components of a study and of installed packages."""
    own.load_installed()
    path = folder and folder / COMPONENTS
    if path and path.exists():
        own.load_file(path)


def own_kinds(folder: Path | None) -> dict[str, Any]:
    """Return the kinds of figures that a study brings along, by name: ``KINDS`` in ``figures.py``.

    Raises
    ------
    gradprop.errors.ConfigError
        If the file cannot be imported or has no such mapping.
    """
    path = folder and folder / FIGURES
    if not path or not path.exists():
        return {}
    kinds = getattr(load(path), "KINDS", None)
    if not isinstance(kinds, dict) or not all(isinstance(name, str) for name in kinds):
        raise ConfigError(f"{path}: has no KINDS, which maps names to kinds of figures")
    return kinds


def load(path: Path) -> ModuleType:
    """Import a module of a study's folder.

    The folder is one package, so that its modules may import each other: ``from . import helper``.
    No byte-code is written beside them.

    Raises
    ------
    gradprop.errors.ConfigError
        If it cannot be imported; the message names file and line.
    """
    folder = path.parent.resolve()
    package = f"{folder.name}_{hashlib.sha256(bytes(folder)).hexdigest()[:12]}"
    if package not in sys.modules:
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = [str(folder)]
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        return importlib.import_module(f"{package}.{path.stem}")
    except errors.GradpropError:
        raise
    except (Exception, SystemExit) as error:
        raise errors.in_code(error, path) from error
    finally:
        sys.dont_write_bytecode = before
