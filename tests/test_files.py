"""Files appear complete or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
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


def test_a_text_that_is_none_in_a_file_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(files.FileError) as caught:
        files.write_text(path, "a half\ud800pair")
    told = r"'a half\ud800pair' has the character U+D800; no file can hold it"
    assert str(caught.value) == f"{path}: {told}"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


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


def test_one_process_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from gradprop import files
with files.one_at_a_time(Path(sys.argv[1]), "writing"):
    Path(sys.argv[1], "done").touch()
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    with files.one_at_a_time(tmp_path, "reading"):
        other = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert other.stderr is not None
        assert other.stderr.readline() == "gradprop: waiting for another process: writing\n"
        assert not (tmp_path / "done").exists()
    assert other.communicate()[1] == ""
    assert other.returncode == 0
    assert (tmp_path / "done").exists()


def test_where_the_file_system_knows_no_locks_nobody_waits_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with files.one_at_a_time(tmp_path, "writing"):
        pass
    assert "no lock can be had (No locks available)" in capsys.readouterr().err


def test_a_folder_in_which_somebody_works_is_locked(tmp_path: Path) -> None:
    assert not files.is_locked(tmp_path)
    with files.one_at_a_time(tmp_path / "in/it", "writing"):
        assert files.is_locked(tmp_path)
    assert not files.is_locked(tmp_path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "it")
    with pytest.raises(files.FileError, match="it: not an ordinary file; nothing is written there"):
        files.write_text(tmp_path / "it", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["it"]
    assert not (tmp_path / "it").is_file()


def test_what_went_wrong_first_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that is read-only, removing the temporary file fails as well."""

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", path)

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="Read-only") as caught:
        files.write_text(tmp_path / "a.txt", "text")
    assert caught.value.filename == str(tmp_path / "a.txt")
