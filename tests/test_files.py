"""Files appear complete or not at all."""

from __future__ import annotations

import errno
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from gradprop import files


def test_a_file_is_replaced_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    files.write_text(path, "ä\n")
    files.write_text(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def fill_disk(_: Path) -> None:
    raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] ...")


def fill_disk_and_fail_to_close(path: Path) -> None:
    """As matplotlib does for a PDF."""
    try:
        fill_disk(path)
    finally:
        raise zlib.error("Error -2 while flushing")


def lack_folder(path: Path) -> None:
    path.parent.rmdir()
    path.write_text("text")


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (fill_disk, "No space left on device"),
        (fill_disk_and_fail_to_close, "No space left on device"),
        (lack_folder, "No such file or directory"),
    ],
)
def test_an_error_of_writing_names_the_file(
    tmp_path: Path, write: Callable[[Path], None], reason: str
) -> None:
    path = tmp_path / "new/file.txt"
    with pytest.raises(OSError, match=reason) as caught, files.replacing(path) as temporary:
        write(temporary)
    assert (caught.value.filename, caught.value.strerror) == (str(path), reason)
    assert not list(tmp_path.glob("new/*"))


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    """One that names another file, and one that was raised instead of an error."""
    other = tmp_path / "other.txt"
    with pytest.raises(FileNotFoundError) as caught, files.replacing(tmp_path / "file.txt"):
        other.read_text()
    assert caught.value.filename == str(other)
    with pytest.raises(ValueError, match="mine"), files.naming(tmp_path):
        try:
            fill_disk(other)
        except OSError as error:
            raise ValueError("mine") from error
