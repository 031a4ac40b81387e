"""Reading and validating configuration: YAML in, plain data or one clear message out."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import yaml

MOST_ERRORS = 5


class ConfigError(Exception):
    """The configuration can't be used; the message says which file, key and value, and why."""


def read_yaml(path: Path) -> Any:
    """Read a YAML file safely.

    Raises
    ------
    ConfigError
        If the file is missing or is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None


def validate(document: Any, schema: Mapping[str, Any], source: str) -> None:
    """Check `document` against a JSON Schema (2020-12).

    Parameters
    ----------
    document
        Plain data.
    schema
        The schema as plain data.
    source
        Name of the file the document comes from, for the message.

    Raises
    ------
    ConfigError
        With a line for every mistake (at most `MOST_ERRORS`): file, key, bad value, what is
        allowed and, for a typo, what was probably meant.
    """
    validator = jsonschema.Draft202012Validator(schema)
    errors = sorted(validator.iter_errors(document), key=lambda error: list(map(str, error.path)))
    lines = list(dict.fromkeys(line for error in errors for line in _explain(error, source)))
    if lines:
        more = len(lines) - MOST_ERRORS
        tail = [f"... and {more} more"] if more > 0 else []
        raise ConfigError("\n".join(lines[:MOST_ERRORS] + tail))


def unknown(key: str, value: str, allowed: Sequence[str], source: str) -> ConfigError:
    """Return the error for a value that is not among those allowed."""
    return ConfigError(f"{source}: {key}: {_not_allowed(value, allowed)}")


def _explain(error: jsonschema.ValidationError, source: str) -> Iterator[str]:
    key = _key(error.absolute_path)
    where = f"{source}: {key}" if key else source
    if error.validator == "enum":
        yield f"{where}: {_not_allowed(error.instance, error.validator_value)}"
    elif error.validator == "additionalProperties":
        allowed = sorted(error.schema.get("properties", {}))
        for name in sorted(set(error.instance) - set(allowed), key=str):
            yield f"{where}: unknown key: {_not_allowed(name, allowed)}"
    elif error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        yield f"{where}: missing key: {', '.join(missing)}"
    elif error.validator == "type":
        yield f"{where}: {_wrong_type(error)}"
    else:
        yield f"{where}: {error.message}"


def _key(path: Sequence[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _not_allowed(value: Any, allowed: Sequence[Any]) -> str:
    text = f"{value!r} is not allowed; allowed: {', '.join(map(str, allowed))}"
    names = [str(item) for item in allowed]
    close = difflib.get_close_matches(str(value), names, n=1)
    return f"{text}. Did you mean {close[0]!r}?" if close else text


def _wrong_type(error: jsonschema.ValidationError) -> str:
    expected = error.validator_value
    names = [expected] if isinstance(expected, str) else expected
    text = f"{error.instance!r} is not of type {' or '.join(names)}"
    if isinstance(error.instance, str) and {"number", "integer"} & set(names):
        try:
            value = float(error.instance)
        except ValueError:
            return text
        return f"{text}: YAML reads it as text; write {value}"
    if isinstance(error.instance, bool):
        return f"{text}: YAML reads yes, no, on and off as true and false; put it in quotes"
    return text
