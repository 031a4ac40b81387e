"""Reading and validating configuration: YAML in, plain data or one clear message out."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from gradprop.errors import GradpropError

MOST_ERRORS = 5
_LONGEST = 80

_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "object": "a mapping (key: value)",
    "string": "text",
}


class ConfigError(GradpropError):
    """The configuration can't be used; the message says which file, key and value, and why."""


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a key that stands twice in a mapping."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                problem = f"key {key.value!r} stands twice in one mapping"
                raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return node


def read_yaml(path: Path) -> Any:
    """Read a YAML file safely.

    Raises
    ------
    ConfigError
        If the file can't be read, is not YAML or has a key twice in one mapping.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid UTF-8 at byte {error.start}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{path}: {place}not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that has keys at its top level.

    Raises
    ------
    ConfigError
        As `read_yaml`, or if there are none.
    """
    content: dict[str, Any] = read_yaml(path)
    validate(content, {"type": "object"}, str(path))
    return content


def _is_finite_number(checker: jsonschema.TypeChecker, value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)


_extend: Any = jsonschema.validators.extend  # has no type hints
_Validator = _extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("number", _is_finite_number),
)


def validate(document: Any, schema: Mapping[str, Any], source: str) -> None:
    """Check `document` against a JSON Schema (2020-12); NaN and infinity are no numbers.

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
    if document is None:
        raise ConfigError(f"{source}: the file is empty")
    errors = sorted(_Validator(schema).iter_errors(document), key=lambda e: list(map(str, e.path)))
    lines = list(dict.fromkeys(line for error in errors for line in _explain(error, source)))
    if lines:
        more = len(lines) - MOST_ERRORS
        tail = [f"... and {more} more"] if more > 0 else []
        raise ConfigError("\n".join(lines[:MOST_ERRORS] + tail))


def unknown(key: str, value: str, allowed: Sequence[str], source: str) -> ConfigError:
    """Return the error for a value that is not among those allowed."""
    return ConfigError(f"{source}: {key}: {_not_allowed(value, allowed)}")


def _explain(error: jsonschema.ValidationError, source: str) -> Iterator[str]:
    """Yield the lines for one error of the validator."""
    path = list(error.absolute_path)
    value: Any = error.instance
    rule: Any = error.validator_value
    schema: Any = error.schema
    where = _where(path, source)
    if error.validator == "enum":
        yield f"{where}: {_not_allowed(value, rule)}"
    elif error.validator == "additionalProperties":
        allowed = list(schema.get("properties", {}))
        for name in (name for name in value if name not in allowed):
            text = f"unknown key; allowed: {', '.join(allowed)}{_suggestion(name, allowed)}"
            yield f"{_where([*path, str(name)], source)}: {text}"
    elif error.validator == "required":
        missing = [name for name in rule if name not in value]
        yield f"{where}: missing key: {', '.join(missing)}"
    elif error.validator == "type":
        yield f"{where}: {_wrong_type(value, [rule] if isinstance(rule, str) else rule)}"
    elif error.validator == "pattern":
        yield f"{where}: {_show(value)} is not allowed; allowed: {schema['description']}"
    elif error.validator in ("minItems", "minLength"):
        yield f"{where}: {_show(value)} is empty"
    elif error.validator == "uniqueItems":
        twice = [item for number, item in enumerate(value) if item in value[:number]]
        yield f"{where}: {_show(twice[0])} stands twice in the list"
    else:
        yield f"{where}: {error.message}"


def _where(path: Sequence[Any], source: str) -> str:
    """Return ``file: key.key[index]``."""
    text = "".join(f"[{part}]" if type(part) is int else f".{part}" for part in path)
    return f"{source}: {text.removeprefix('.')}" if text else source


def _show(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _suggestion(value: Any, allowed: Sequence[Any]) -> str:
    def plain(text: Any) -> str:
        return str(text).lower().replace("-", "_").replace(" ", "_")

    names = {plain(name): name for name in allowed}
    close = difflib.get_close_matches(plain(value), names, n=1)
    return f". Did you mean {str(names[close[0]])!r}?" if close else ""


def _not_allowed(value: Any, allowed: Sequence[Any]) -> str:
    text = f"{_show(value)} is not allowed; allowed: {', '.join(map(str, allowed))}"
    if isinstance(value, bool):
        return f"{text} (YAML reads yes, no, on and off as true and false)"
    return f"{text}{_suggestion(value, allowed) if isinstance(value, str) else ''}"


def _wrong_type(value: Any, expected: Sequence[str]) -> str:
    text = f"{_show(value)} is not {' or '.join(_TYPES[name] for name in expected)}"
    if isinstance(value, bool):
        hint = "YAML reads yes, no, on and off as true and false"
        return f"{text}: {hint}{'; put it in quotes' if 'string' in expected else ''}"
    if isinstance(value, str) and {"number", "integer"} & set(expected):
        number = _as_number(value, whole="number" not in expected)
        return f"{text}: YAML reads it as text; write {number}" if number else text
    if isinstance(value, float) and not math.isfinite(value):
        return f"{text} (infinite and undefined numbers are not allowed)"
    if isinstance(value, (str, int, float)) and "array" in expected:
        return f"{text}; write [{value}]"
    if isinstance(value, (int, float)) and "string" in expected:
        return f"{text}; put it in quotes"
    return text


def _as_number(text: str, whole: bool) -> str | None:
    """Return `text` as YAML wants a number (1e-3 needs a point: 1.0e-3), if it is one."""
    try:
        number = float(text)
    except ValueError:
        return None
    if not math.isfinite(number) or (whole and not number.is_integer()):
        return None
    if whole:
        return str(int(number))
    mantissa, exponent, power = repr(number).partition("e")
    point = "" if "." in mantissa else ".0"
    return f"{mantissa}{point}{exponent}{power}"
