"""Own data: a table in a study's folder, as CSV, Parquet or NPZ.

A file is data: nothing in it is run, and NumPy's pickles are not read. The checksum of its content
is part of the ids of the cells that are trained on it. Nothing is mended in silence: missing values
and text among the features are errors that tell the column and the row.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradprop import errors
from gradprop.components.registry import LARGEST_COUNT, LARGEST_SIZE
from gradprop.errors import GradpropError, show
from gradprop.spec import LARGEST_NUMBER

MOST_BYTES = 500_000_000
MOST_CLASSES = 20  # whole numbers of more different values are taken for a quantity
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_NO_NAME = re.compile(r"\s*|Unnamed: \d+")  # the latter is what pandas calls such a column

Column = Any  # pyarrow publishes no types


class DataFileError(GradpropError):
    """A file cannot be used as a data set; the message says what is allowed."""


class Table(NamedTuple):
    """What a file holds for one choice of targets."""

    task: str  # classification or regression
    x: NDArray[np.float64]  # (examples, features)
    y: NDArray[Any]  # labels, (examples,), or targets, (examples, outputs)
    outputs: int  # classes or targets


class _File(NamedTuple):
    path: Path
    content: bytes
    checksum: str


class _Parts(NamedTuple):
    """What a file holds, before it is known what the targets are for."""

    x: NDArray[np.float64]
    targets: dict[str, Column]


# By the name that studies give them.
_files: dict[str, _File] = {}


def enter(name: str, folder: Path | None) -> None:
    """Read a file of a study, so that this process knows its content.

    Parameters
    ----------
    name
        As the study names it: its path in the study's folder.
    folder
        The study's.

    Raises
    ------
    DataFileError
        If there is no such file in the folder, it is too large, or another study has another one
        of the name.
    """
    if not name:
        raise DataFileError("no file is named; allowed: {file: <file>, target: <column>}")
    if folder is None:
        raise DataFileError(f"{name}: the folder of its study is not given")
    if (plain := os.path.normpath(name)) != name:
        raise DataFileError(f"{name}: one file has one name; allowed: {plain}")
    content = _content(name, folder)
    file = _File((folder / name).resolve(), content, hashlib.sha256(content).hexdigest()[:12])
    known = _files.get(name, file)
    if known.path != file.path and known.checksum != file.checksum and known.path.exists():
        raise DataFileError(f"{name}: {known.path} is another file of this name; rename one")
    _files[name] = file


def _content(name: str, folder: Path) -> bytes:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataFileError(f"{name}: not in the study's folder; allowed: files in {folder}")
    if path.suffix not in _READERS:
        raise DataFileError(f"{name}: not of a kind that is read; allowed: {', '.join(_READERS)}")
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # of a pipe, reading might never end
            raise DataFileError(f"{path}: not an ordinary file")
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise DataFileError(f"{path}: no such file") from None
    except OSError as error:
        raise DataFileError(f"{path}: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise DataFileError(f"{path}: the file is too large; allowed: {MOST_BYTES:,} bytes")
    if not content.strip():
        raise DataFileError(f"{path}: the file is empty")
    return content


def forget(name: str) -> None:
    """Take back what `enter` read."""
    _files.pop(name, None)


def checksum(name: str) -> str:
    """Return the first digits of the SHA-256 of a file that was entered."""
    return _entered(name).checksum


def read(name: str, target: str, task: str) -> Table:
    """Return the arrays of a file that was entered.

    Parameters
    ----------
    name
        Of the file.
    target
        The column of the targets, or several with commas between them; of an NPZ nothing.
    task
        ``classification``, ``regression``, or ``auto``: classification if the target is text, true
        or false, or whole numbers of at most `MOST_CLASSES` different values.

    Raises
    ------
    DataFileError
        If the file is not of its kind, or cannot be learned from: a target that is not there,
        missing values, text among the features, one class, a class of one example ...
    """
    return _read(name, checksum(name), target, task)


def _entered(name: str) -> _File:
    if name not in _files:
        raise DataFileError(f"{name or 'file'}: no study that names it has been read")
    return _files[name]


@lru_cache(maxsize=32)
def _read(name: str, checksum: str, target: str, task: str) -> Table:
    """Read a file; with its `checksum` among the arguments, once for every content."""
    try:
        file = _entered(name)
        parts = _READERS[file.path.suffix](file.content, target)
        _check(parts.x)
        if task == "auto":
            task = _inferred(parts.targets)
        if task == "classification":
            return _classification(parts)
        return _regression(parts)
    except DataFileError as error:
        raise DataFileError(f"{name}: {error}") from None


# ----------------------------------------------------------------------------------- formats


def _csv(content: bytes, target: str) -> _Parts:
    import pyarrow as pa
    from pyarrow import csv

    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise DataFileError(f"not valid UTF-8 at byte {error.start}") from None
    _check_separator(content)
    try:
        table = csv.read_csv(
            pa.BufferReader(content),
            read_options=csv.ReadOptions(block_size=len(content) + 1),  # types from all rows
            convert_options=csv.ConvertOptions(strings_can_be_null=True),
        )
    except pa.ArrowInvalid as error:
        raise DataFileError(f"not a table of CSV: {errors.cut(str(error), 120)}") from None
    return _parts(table, target)


def _check_separator(content: bytes) -> None:
    """Refuse a table whose values have something else than commas between them."""
    first = content.decode().lstrip("\ufeff").lstrip().partition("\n")[0]
    for sign, name in ((";", "semicolons"), ("\t", "tabs")):
        if sign in first and "," not in first:
            raise DataFileError(
                f"the first line has {name} between the names of the columns; allowed: commas "
                "between values, and points in numbers"
            )


def _parquet(content: bytes, target: str) -> _Parts:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise DataFileError(f"not a Parquet file: {errors.cut(str(error), 120)}") from None
    # A data frame's index is none of its columns.
    columns = [name for name in table.column_names if not _PANDAS_INDEX.fullmatch(name)]
    return _parts(table.select(columns), target)


def _npz(content: bytes, target: str) -> _Parts:
    import pyarrow as pa

    if target:
        raise DataFileError(
            f"target: {show(target)} is not allowed; an NPZ file has its targets in the array y"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
                raise DataFileError(f"unpacked it is too large; allowed: {MOST_BYTES:,} bytes")
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            missing = [name for name in ("x", "y") if name not in stored]
            if missing:
                raise DataFileError(f"no array {', '.join(missing)}; allowed: arrays x and y")
            x, y = stored["x"], stored["y"]
    except GradpropError:
        raise
    except Exception as error:  # NumPy and zipfile raise almost anything for damaged files
        problem = errors.cut(str(error).partition("\n")[0], 120)
        raise DataFileError(f"not an NPZ file of plain arrays: {problem}") from None
    x, y = _native(x), _native(y)
    if x.ndim != 2 or x.dtype.kind not in "biuf":
        raise DataFileError(
            f"x has the shape {x.shape} of {x.dtype}; allowed: numbers, (examples, features)"
        )
    if y.ndim not in (1, 2) or len(y) != len(x) or not y.size or y.dtype.kind not in "biufU":
        raise DataFileError(
            f"y has the shape {y.shape} of {y.dtype}; allowed: labels or numbers, ({len(x)},), or "
            f"numbers, ({len(x)}, outputs)"
        )
    columns = y[:, None] if y.ndim == 1 else y
    targets = {
        f"y[:, {i}]": pa.array(np.ascontiguousarray(part)) for i, part in enumerate(columns.T)
    }
    features = np.empty(x.shape)
    for i, part in enumerate(x.T):
        features[:, i] = _numbers(f"x[:, {i}]", pa.array(np.ascontiguousarray(part)))
    return _Parts(features, targets)


def _native(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array in this machine's order of bytes; floating-point numbers as float64."""
    if array.dtype.kind == "f":
        return array.astype(np.float64)
    return array.astype(array.dtype.newbyteorder("="))


_READERS: dict[str, Callable[[bytes, str], _Parts]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".npz": _npz,
}


def _parts(table: Any, target: str) -> _Parts:
    """Return the columns of a table that are features, as numbers, and those that are targets."""
    names = table.column_names
    if not len(table):
        raise DataFileError("no rows below the names of the columns")
    if nameless := [number for number, name in enumerate(names, 1) if _NO_NAME.fullmatch(name)]:
        raise DataFileError(
            f"column {nameless[0]} has no name; if it is the index of a data frame, write the file "
            "with index=False, and else give it a name"
        )
    if not target:
        raise DataFileError(f"target: no column is named; allowed: {errors.nearest('', names)}")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataFileError(f"several columns have one name: {errors.nearest('', twice)}")
    wanted = [target] if target in names else [part.strip() for part in target.split(",")]
    for name in wanted:
        if name not in names:
            raise DataFileError(f"target: {errors.not_allowed(name, names)}")
    features = [name for name in names if name not in wanted]
    x = np.empty((len(table), len(features)))
    for i, name in enumerate(features):
        x[:, i] = _numbers(name, table[name])
    return _Parts(x, {name: table[name] for name in wanted})


def _present(name: str, column: Column) -> Column:
    """Return a column without a dictionary, after a look at whether all values are there."""
    import pyarrow as pa

    if column.null_count:
        first = column.is_null().to_pylist().index(True) + 1
        raise DataFileError(
            f"column {show(name)} lacks values: {column.null_count} of {len(column)}, the first in "
            f"row {first}; fill them in, or leave out these rows or the column"
        )
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column


def _numbers(name: str, column: Column) -> NDArray[np.float64]:
    import pyarrow as pa

    column, types = _present(name, column), pa.types
    if _is_text(column):
        texts = column.to_pylist()
        row = next((row for row, text in enumerate(texts) if not _is_number(text)), 0)
        raise DataFileError(
            f"column {show(name)} holds text ({show(texts[row])} in row {row + 1}); allowed: "
            "numbers, true and false; replace it by numbers or leave it out"
        )
    kinds = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    if not any(holds(column.type) for holds in kinds):
        raise DataFileError(
            f"column {show(name)} holds {column.type}; allowed: numbers, true and false"
        )
    if types.is_boolean(column.type):
        column = column.cast(pa.int8())
    exact = not types.is_integer(column.type)  # the others lose nothing that float64 could keep
    try:
        return _in_range(name, np.asarray(column.cast(pa.float64(), safe=not exact).to_numpy()))
    except pa.ArrowInvalid:
        raise DataFileError(
            f"column {show(name)} has whole numbers beyond 2^53; allowed: up to it, or as text"
        ) from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_text(column: Column) -> bool:
    """Tell whether a column of pyarrow holds text."""
    import pyarrow as pa

    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(holds(column.type) for holds in kinds)


def _check(x: NDArray[np.float64]) -> None:
    """Refuse features that nothing can be learned from or that float32 cannot hold."""
    examples, features = x.shape
    if examples < 2 or examples > LARGEST_COUNT:
        raise DataFileError(f"number of rows: {examples:,}; allowed: 2 to {LARGEST_COUNT:,}")
    if not features or features > LARGEST_SIZE:
        raise DataFileError(
            f"number of columns besides the target: {features:,}; allowed: 1 to {LARGEST_SIZE:,}"
        )
    if not np.ptp(x, axis=0).any():
        raise DataFileError("every column besides the target is constant")


def check_unscaled(name: str, table: Table) -> None:
    """Refuse features that stay as they are and that float32 cannot tell apart.

    Raises
    ------
    DataFileError
        If the values of one are all the same in float32, and differ.
    """
    lost = (np.ptp(table.x, axis=0) > 0) & (np.ptp(table.x.astype(np.float32), axis=0) == 0)
    if lost.any():
        raise DataFileError(
            f"{name}: the values of feature {np.flatnonzero(lost)[0] + 1} are one number in "
            "float32; allowed: standardize: true"
        )


def _in_range(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values of a column, after a look at whether float32 can hold them."""
    outside = np.flatnonzero(~(np.abs(values) <= LARGEST_NUMBER))
    if len(outside):
        first = outside[0]
        raise DataFileError(
            f"column {show(name)} has {values[first]:g} in row {first + 1}; allowed: finite "
            f"numbers up to {LARGEST_NUMBER:.2g}"
        )
    return values


# ------------------------------------------------------------------------------------- tasks


def _inferred(targets: Mapping[str, Column]) -> str:
    """Return the task that the target's values call for (`read`)."""
    if len(targets) > 1:
        return "regression"
    ((name, column),) = targets.items()
    if _is_text(_present(name, column)):
        return "classification"
    values = np.unique(_numbers(name, column))
    few = len(values) <= MOST_CLASSES and (values == np.round(values)).all()
    return "classification" if few else "regression"


def _classification(parts: _Parts) -> Table:
    if len(parts.targets) > 1:
        raise DataFileError(f"{len(parts.targets)} targets; allowed for classification: one")
    ((name, column),) = parts.targets.items()
    column = _present(name, column)
    if _is_text(column):
        values = np.array(column.to_pylist(), dtype=object)
    else:
        values = _numbers(name, column)
        if (values != np.round(values)).any():
            raise DataFileError(
                f"target {show(name)} has values that are not whole; allowed for classification: "
                "text, true and false, whole numbers"
            )
    classes, labels, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise DataFileError(f"target {show(name)} has one class; allowed: 2 or more")
    if counts.min() < 2:
        rare = classes[counts.argmin()]
        shown = show(rare) if _is_text(column) else f"{rare:g}"
        raise DataFileError(
            f"target {show(name)}: class {shown} has 1 example; allowed: 2 or more (of a quantity: "
            "task: regression)"
        )
    return Table("classification", parts.x, labels, len(classes))


def _regression(parts: _Parts) -> Table:
    y = np.column_stack([_numbers(name, column) for name, column in parts.targets.items()])
    constant = [n for n, range_ in zip(parts.targets, np.ptp(y, axis=0), strict=True) if not range_]
    if constant:
        raise DataFileError(f"target {show(constant[0])} is constant")
    return Table("regression", parts.x, y, y.shape[1])
