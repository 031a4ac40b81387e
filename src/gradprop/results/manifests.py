"""Manifests: what a job made, from what, each file with the checksum of its content.

A manifest is written last. It is the output that Snakemake waits for, and its name holds the digest
of what was asked for: another grid, another definition or another title is another manifest, which
is not there yet. What is right therefore rests on no file's time. A manifest is *false* if a file
that it names is gone or has another content, or if the code behind it was changed; whoever starts
the workflow removes false manifests first (`discard_false`), and whoever reads a file asks its
manifest (`require`).
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from gradprop import files, provenance
from gradprop.errors import GradpropError, how_to_make
from gradprop.spec import digest


class ManifestError(GradpropError):
    """A file is missing, or is not what was written; the message says how to mend it."""


@dataclass(frozen=True)
class Manifest:
    """What a job made.

    Attributes
    ----------
    files, inputs
        Checksums of what was made and of what it was made from, by the path relative to the
        manifest's folder.
    modules, sources, code
        The modules behind it, the digest of their files and, if an edit of comments and docstrings
        changes nothing, that of their code (`provenance.code_digest`); else "".
    machines
        Instruction sets of the processors that computed it, for whatever they can change.

    The file has a digest of all this besides: a damaged manifest is none.
    """

    files: Mapping[str, str]
    inputs: Mapping[str, str] = field(default_factory=dict)
    modules: Sequence[str] = ()
    sources: str = ""
    code: str = ""
    machines: Sequence[str] = ()


def path_of(folder: Path, stem: str, asked: str) -> Path:
    """Return the path of the manifest in `folder` for what the digest `asked` asks for."""
    return folder / f"{stem}.{asked}.json"


def versions(folder: Path, stem: str) -> list[Path]:
    """Return the manifests of `stem` that are there, for whatever was asked."""
    return sorted(path for path in folder.glob("*.json") if path.name.rsplit(".", 2)[0] == stem)


def last_of(path: Path) -> Path:
    """Return a manifest, or where it is not there the last one of its stem that is."""
    stem = path.name.rsplit(".", 2)[0]
    others = [] if path.exists() else versions(path.parent, stem)
    return max(others, key=lambda other: other.stat().st_mtime_ns, default=path)


def write(
    path: Path,
    made: Iterable[Path],
    inputs: Mapping[Path, str] | None = None,
    modules: Sequence[str] = (),
    code: str = "",
    machines: Iterable[str] = (),
) -> None:
    """Write the manifest of files that are complete; remove those that it takes the place of.

    Parameters
    ----------
    path
        Where it belongs (`path_of`); others of the same stem speak of files that were overwritten.
    made
        The files that were made.
    inputs
        Those that they were made from, with the checksums that they had before they were read.
    modules
        The modules of this package behind them.
    code, machines
        As in `Manifest`.
    """
    manifest = Manifest(
        files={_relative(file, path): files.checksum(file) for file in made},
        inputs={_relative(file, path): stated for file, stated in (inputs or {}).items()},
        modules=list(modules),
        sources=provenance.sources_digest(modules),
        code=code,
        machines=sorted(set(machines)),
    )
    for older in versions(path.parent, path.name.rsplit(".", 2)[0]):
        older.unlink(missing_ok=True)
    content = asdict(manifest)
    content["digest"] = digest(content)
    files.write_text(path, json.dumps(content, indent=1) + "\n")


def checksums(paths: Iterable[Path]) -> dict[Path, str]:
    """Return the checksum of every file, "" for one that cannot be read."""
    return {path: _checksum(path) for path in paths}


def _checksum(path: Path) -> str:
    try:
        return files.checksum(path)
    except OSError:  # not there, a folder, not allowed, or on a disk that fails
        return ""


def _relative(file: Path, manifest: Path) -> str:
    return Path(os.path.relpath(file, manifest.parent)).as_posix()


def read(path: Path) -> Manifest:
    """Read a manifest.

    Raises
    ------
    gradprop.files.FileError, ManifestError
        If it cannot be read or holds something else.
    """
    content = files.read_json(path, dict)
    stated = content.pop("digest", "")
    if not _is_manifest(content) or stated != digest(content):
        raise ManifestError(f"{path}: not a manifest; delete it, and {how_to_make()}")
    return Manifest(**content)


def _is_manifest(content: Mapping[str, Any]) -> bool:
    """Tell whether a document has the fields of a manifest, of the right types."""
    if content.keys() != {f.name for f in fields(Manifest)}:
        return False
    mappings = all(isinstance(content[key], dict) for key in ("files", "inputs"))
    lists = all(isinstance(content[key], list) for key in ("modules", "machines"))
    if not (mappings and lists):
        return False
    texts = [*content["files"].values(), *content["inputs"].values(), *content["modules"]]
    return all(isinstance(item, str) for item in [*texts, *content["machines"], content["code"]])


def require(path: Path, file: Path, study: str = "") -> None:
    """Raise an error unless a file is what the manifest of its job says.

    Parameters
    ----------
    path
        The manifest of what was asked for.
    file
        The file that is about to be used.
    study
        Whose it is, for the message.

    Raises
    ------
    ManifestError
        If there is no manifest, or the file is missing or another.
    """
    if not path.exists():
        problem = "no job has completed it" if file.exists() else "no such file"
        raise ManifestError(f"{file}: {problem}; {how_to_make(study, again=False)}")
    stated = read(path).files.get(_relative(file, path), "")
    if not file.is_file():
        raise ManifestError(f"{file}: no such file; {how_to_make(study)}")
    if _checksum(file) != stated:
        raise ManifestError(f"{file}: damaged or edited; {how_to_make(study)}")


def false(paths: Iterable[Path]) -> dict[Path, list[str]]:
    """Return the manifests that are false, and why.

    Returns
    -------
    dict
        For every false manifest a line for each file that is damaged or gone; edits of code go
        without saying.
    """
    checked: dict[Path, str] = {}
    faults = {path: _faults(path, checked) for path in paths if path.exists()}
    return {path: list(filter(None, found)) for path, found in faults.items() if found}


def discard_false(paths: Iterable[Path]) -> list[str]:
    """Remove the manifests that are false, so that Snakemake makes their files again.

    Those of what was asked for before go, too: the files that they speak of were overwritten.

    Returns
    -------
    list of str
        The lines of `false`, each once.
    """
    known = [path for path in paths if path.exists()]
    for path in known:
        for other in versions(path.parent, path.name.rsplit(".", 2)[0]):
            if other != path:
                other.unlink(missing_ok=True)
    found = false(known)
    for path in found:
        path.unlink(missing_ok=True)
    return list(dict.fromkeys(line for lines in found.values() for line in lines))


def hide(paths: Iterable[Path]) -> None:
    """Put files aside, under temporary names beside theirs, until this process ends.

    So a dry run plans without them. What is written in the place of one in the meantime stays.
    """
    for path in map(Path.absolute, paths):  # Snakemake may change the directory
        hidden = path.with_name(f".{path.stem}.{secrets.randbits(48)}{path.suffix}")
        path.rename(hidden)
        atexit.register(_show, hidden, path)


def _show(hidden: Path, path: Path) -> None:
    with suppress(OSError):  # another process may have removed it
        if path.exists():
            hidden.unlink()
        else:
            hidden.rename(path)


def machines(paths: Iterable[Path]) -> set[str]:
    """Return the instruction sets of the processors that computed what these manifests speak of."""
    found: set[str] = set()
    for path in paths:
        with suppress(GradpropError):  # damaged, and said to be
            found.update(read(path).machines if path.exists() else ())
    return found


def _faults(path: Path, checked: dict[Path, str]) -> list[str]:
    """Return why a manifest is false; an empty line if its code or an input has changed."""
    try:
        manifest = read(path)
    except GradpropError:
        return [f"{path}: damaged; what it speaks of is made again"]
    lines = []
    for file, stated in {**manifest.files, **manifest.inputs}.items():
        real = Path(os.path.normpath(path.parent / file))
        if real not in checked:
            checked[real] = _checksum(real)
        if checked[real] != stated:
            how = "damaged or edited" if real.exists() else "gone"
            lines.append(f"{real}: {how}; it is made again" if file in manifest.files else "")
    if not _is_present_code(manifest):
        lines.append("")
    return lines


@lru_cache
def _digest(modules: tuple[str, ...], of_code: bool) -> str:
    return (provenance.code_digest if of_code else provenance.sources_digest)(modules)


def _is_present_code(manifest: Manifest) -> bool:
    modules = tuple(manifest.modules)
    if not all(module in provenance.MODULES for module in modules):
        return False  # of a version that had others
    if manifest.sources == _digest(modules, of_code=False):
        return True
    return bool(manifest.code) and manifest.code == _digest(modules, of_code=True)
