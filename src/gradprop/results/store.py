"""Finished work that no job may lose: files whose names carry the checksum of their content.

Snakemake removes the outputs of a job before it runs it and when it fails. What took long to make
is therefore kept in a store beside them, from which outputs are put together again. A file of a
store is written once, under a temporary name, and never changed. One that was truncated or edited
no longer fits its name and counts as lost.
"""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gradprop import files

_DIGITS = 32
# The date of every member, so that the same content is the same file.
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Entry:
    """A file of a store that was found whole.

    Attributes
    ----------
    path
        The file.
    key
        What it was stored under.
    """

    path: Path
    key: str

    def read(self, member: str) -> bytes:
        """Return the content of one of its members."""
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(member)


class Store:
    """A folder of finished work.

    Parameters
    ----------
    folder
        Made when it is first needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, key: str, members: Mapping[str, bytes]) -> Entry:
        """Keep files under a key, all of them or none."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name, _DATE), content)
        content = buffer.getvalue()
        path = self.folder / f"{key}.{hashlib.sha256(content).hexdigest()[:_DIGITS]}.zip"
        with files.replacing(path) as temporary:
            temporary.write_bytes(content)
        return Entry(path, key)

    def entries(self, key: str = "*") -> list[Entry]:
        """Return what is whole, sorted by name; name and remove what is damaged."""
        found = []
        for path in sorted(self.folder.glob(f"{key}.*.zip")):
            name, stated, _ = path.name.rsplit(".", 2)
            if files.checksum(path)[:_DIGITS] == stated:
                found.append(Entry(path, name))
            else:
                print(f"gradprop: {path}: damaged, and removed", file=sys.stderr)
                path.unlink(missing_ok=True)
        return found
