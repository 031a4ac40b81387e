"""Writing files atomically, under a temporary name first, renamed when complete; reading JSON."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from gradprop.errors import GradpropError

T = TypeVar("T")

# The names of temporary files, as `replacing` makes them.
_TEMPORARY = re.compile(r"\..+\.\d+(\.\w+)?")


class FileError(GradpropError):
    """A file cannot be read or holds something else than it should."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds.

    The temporary file keeps the ending of `path` (writers choose a format by it) and is removed
    if the block fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove the temporary files that killed jobs left anywhere in `folder`; return them.

    Call it only while nothing else writes there.
    """
    found = [path for path in folder.rglob(".*") if _TEMPORARY.fullmatch(path.name)]
    for path in found:
        path.unlink(missing_ok=True)
    return found


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file's content in hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path, kind: type[T]) -> T:
    """Read a JSON file that holds a list or an object: `kind` is `list` or `dict`.

    Raises
    ------
    FileError
        If it cannot be read or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(f"{path}: no such file; snakemake makes what it lacks") from None
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise FileError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(content, kind):
        raise FileError(f"{path}: not {'a list' if kind is list else 'an object'}")
    return content
