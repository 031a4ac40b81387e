"""Writing files atomically, under a temporary name first, renamed when complete; reading JSON."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from gradprop.errors import GradpropError, code_point, show

T = TypeVar("T")

# The names of temporary files, as `replacing` makes them.
_TEMPORARY = re.compile(r"\..+\.\d+(\.\w+)?")


class FileError(GradpropError):
    """A file cannot be read or holds something else than it should."""


@contextmanager
def naming(path: Path, written: Path | None = None) -> Iterator[None]:
    """Let an error of the operating system name `path` if it names no file, or `written`.

    Libraries that write seldom say what: a full disk is an `OSError` without a name, and where a
    library also fails to close its file, an error of its own that has the first one as context.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = None if cause.__suppress_context__ else cause.__context__
        if cause is None or not cause.errno:
            raise
        if cause.filename is not None and str(cause.filename) != str(written):
            raise
        raise OSError(cause.errno, os.strerror(cause.errno), str(path)) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds.

    The temporary file keeps the ending of `path` (writers choose a format by it) and is removed
    if the block fails. An `OSError` names `path`.

    Raises
    ------
    FileError
        If `path` is something else than a file, which renaming would remove.
    """
    if path.exists() and not path.is_file():
        raise FileError(f"{path}: not an ordinary file; nothing is written there")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.randbits(48)}{path.suffix}")
    try:
        with naming(path, temporary):
            yield temporary
            temporary.replace(path)
    finally:
        with suppress(OSError):  # what went wrong before says more
            temporary.unlink()


@contextmanager
def one_at_a_time(folder: Path, work: str) -> Iterator[None]:
    """Let the block run in one process at a time, of all that work in `folder`; the others wait.

    A job goes on when its Snakemake is killed, and the next run starts the same job again. Where
    the file system knows no locks, nobody waits.

    Parameters
    ----------
    folder
        Made if it is not there.
    work
        What the other process does, for the line that says that this one waits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"gradprop: waiting for another process: {work}", file=sys.stderr, flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            problem = f"no lock can be had ({error.strerror}); let no other process work there"
            print(f"gradprop: {folder}: {problem}", file=sys.stderr, flush=True)
        yield


def is_locked(folder: Path) -> bool:
    """Tell whether a process works somewhere in `folder` that lets no other in."""
    for path in folder.rglob(".lock"):
        with suppress(FileNotFoundError), path.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:
                continue
    return False


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove the temporary files that killed jobs left anywhere in `folder`; return them.

    Call it only while nothing else writes there.
    """
    found = [
        Path(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if _TEMPORARY.fullmatch(name)
    ]
    for path in found:
        path.unlink(missing_ok=True)
    return found


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file's content in hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, atomically.

    Raises
    ------
    FileError
        If the text has half a surrogate pair.
    """
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        code = code_point(text[error.start])
        around = show(text[max(error.start - 20, 0) : error.end + 20])
        raise FileError(f"{path}: {around} has the character {code}; no file can hold it") from None
    with replacing(path) as temporary:
        temporary.write_bytes(content)


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
