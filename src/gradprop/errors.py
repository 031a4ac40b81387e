"""Errors that are the user's to mend, and the words in which they are told."""

from __future__ import annotations

import difflib
import itertools
import re
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class GradpropError(Exception):
    """Something the user can mend; the message says what and how, and needs no traceback."""


class CodeError(GradpropError):
    """A study's own code failed; the message says where. The cause has the traceback, for a log."""


COMMAND = "snakemake --cores 4"  # of the configuration in config/config.yaml
MOST_LISTED = 60
MOST_ALIKE = 100
# How much of what it was given a line repeats: a file's name, one key or name, a value.
_LONGEST_SOURCE = 180
_LONGEST_KEY = 40
LONGEST_VALUE = 60
_LONGEST_LISTING = 110
# What neither YAML nor XML can hold: most control characters, half a surrogate pair.
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


class ConfigError(GradpropError):
    """The configuration can't be used; the message says which file, key and value, and why."""


def in_code(error: BaseException, file: Path) -> ConfigError:
    """Return the error for one that arose in somebody's code, with file and line.

    Parameters
    ----------
    error
        What was raised.
    file
        The file that was run; the line may be in another one of its folder.
    """
    return ConfigError(f"{place_in_code(error, file)}: {describe(error)}")


def describe(error: BaseException) -> str:
    """Return an error of somebody's code in one line, without its place."""
    problem = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {cut(problem, 200)}"


def place_in_code(error: BaseException, file: Path) -> str:
    """Return file and line of somebody's code where an error arose, as `in_code` does."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{file.with_name(Path(error.filename).name)}:{error.lineno}"
    if isinstance(error.__cause__, StopIteration):  # it was raised in a generator
        error = error.__cause__
    folder = file.parent.resolve()
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if Path(frame.filename).parent.resolve() == folder]
    if not inside:
        return str(file)
    return f"{file.with_name(Path(inside[-1].filename).name)}:{inside[-1].lineno}"


def unknown(key: str, value: str, allowed: Sequence[str], source: str) -> ConfigError:
    """Return the error for a value that is not among those allowed."""
    return ConfigError(f"{cut_path(source)}: {key}: {not_allowed(value, allowed)}")


def place(source: str, *path: str | int) -> str:
    """Return ``file: key.key[index]``, where a message's value stands."""
    return place_of(path, source)


def place_of(path: Sequence[Any], source: str) -> str:
    """Return ``file: key.key[index]``."""
    text = "".join(f"[{part}]" if type(part) is int else f".{_cut_key(part)}" for part in path)
    source = cut_path(source)
    return f"{source}: {text.removeprefix('.')}" if text else source


def how_to_make(study: str = "", again: bool = True) -> str:
    """Return what makes a file again, or for the first time: of a study, if it is known."""
    chosen = f" --config 'studies=[{study}]'" if study else ""
    done = "made it again" if again else "makes it"
    return f"run the command that {done}, e.g. {COMMAND}{chosen}"


def one_line(text: str) -> str:
    """Return a library's message without line ends and the colours of a terminal."""
    return " ".join(re.sub(r"\x1b\[[\d;]*m", "", text).split())


def cut(text: str, longest: int = LONGEST_VALUE) -> str:
    """Return one line of printable text that is not too long."""
    text = text[: longest + 1]
    plain = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
    return plain if len(plain) <= longest else f"{plain[:longest]}..."


def _cut_key(key: Any) -> str:
    return cut(str(key), _LONGEST_KEY)


def cut_path(path: str) -> str:
    """Return a file's name, without its middle if it is long."""
    half = _LONGEST_SOURCE // 2
    short = path if len(path) <= _LONGEST_SOURCE else f"{path[: half - 3]}...{path[-half:]}"
    return cut(short, 2 * _LONGEST_SOURCE)


def unprintable(text: str) -> str | None:
    """Return the code of the first character that no YAML and no report can hold, if any."""
    found = _UNPRINTABLE.search(text)
    return code_point(found[0]) if found else None


def code_point(character: str) -> str:
    """Return the name of a character that may not be shown as it is, such as U+0000."""
    return f"U+{ord(character):04X}"


def show(value: Any) -> str:
    """Return a value as it stands in messages: one line, cut if it is long."""
    return cut("nothing" if value is None else repr(value))


def suggestion(value: Any, allowed: Sequence[Any]) -> str:
    """Return a question whether the closest of the allowed values was meant, or nothing."""

    def plain(text: Any) -> str:
        return str(text).lower().replace("-", "_").replace(" ", "_")

    names = {plain(name): name for name in allowed}
    close = difflib.get_close_matches(plain(value)[:MOST_ALIKE], names, n=1)
    return f". Did you mean {show(str(names[close[0]]))}?" if close else ""


def nearest(value: str, names: Sequence[Any]) -> str:
    """Return names with commas, those most like the value first: as many as fit a line."""
    matcher = difflib.SequenceMatcher(b=value[:MOST_ALIKE])

    def likeness(name: str) -> float:
        matcher.set_seq1(name)
        return matcher.ratio()

    ordered = sorted(map(_cut_key, names), key=likeness, reverse=True)
    ends = itertools.accumulate(len(name) + 2 for name in ordered)
    fitting = sum(end <= _LONGEST_LISTING for end in ends)
    more = len(ordered) - fitting
    return ", ".join([*ordered[:fitting], *([f"... ({more} more)"] if more else [])])


def not_allowed(value: Any, allowed: Sequence[Any]) -> str:
    """Return what is said of a value that is not among those allowed."""
    text = f"{show(value)} is not allowed; allowed: {_listing(allowed)}"
    if isinstance(value, bool):
        return f"{text} (YAML reads yes, no, on and off as true and false)"
    return f"{text}{suggestion(value, allowed) if isinstance(value, str) else ''}"


def _listing(names: Sequence[Any]) -> str:
    """Return names with commas; of very many, the first ones."""
    shown = [_cut_key(name) for name in names[:MOST_LISTED]]
    more = len(names) - len(shown)
    return ", ".join([*shown, f"... ({more} more)"] if more > 0 else shown)
