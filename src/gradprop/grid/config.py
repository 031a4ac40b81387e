"""Reading and validating configuration: YAML in, plain data or one clear message out."""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jsonschema
import yaml

from gradprop.errors import (
    LONGEST_VALUE,
    ConfigError,
    cut,
    cut_path,
    not_allowed,
    place_of,
    show,
    suggestion,
    unprintable,
)
from gradprop.spec import LARGEST_INTEGER, LARGEST_NUMBER, SMALLEST_NUMBER

MOST_ERRORS = 5
# Of a file: enough for any study, and little enough that reading it takes seconds and no memory.
MOST_BYTES, MOST_LEVELS, MOST_NODES = 200_000, 50, 200_000
_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "object": "a mapping (key: value)",
    "string": "text",
}


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, limited to what JSON can hold: text as keys, each once; no dates.

    Nesting and aliases are limited too, so that a small file stays small when it is read.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._level = 0
        self._sizes: dict[int, int] = {}  # of finished nodes, aliases written out

    def compose_node(self, parent: Any, index: Any) -> Any:
        alias, mark = self.check_event(yaml.AliasEvent), self.peek_event().start_mark
        if self._level >= MOST_LEVELS:
            _refuse(f"more than {MOST_LEVELS} levels of nesting", mark)
        self._level += 1
        node = super().compose_node(parent, index)
        self._level -= 1
        if isinstance(node, yaml.CollectionNode) and not alias:
            self._sizes[id(node)] = self._size(node, mark)
        return node

    def _size(self, node: yaml.CollectionNode, mark: Any) -> int:
        pairs = isinstance(node, yaml.MappingNode)
        parts = [part for pair in node.value for part in pair] if pairs else node.value
        size = 1
        for part in parts:
            if isinstance(part, yaml.CollectionNode) and id(part) not in self._sizes:
                _refuse("an alias stands within what it stands for", mark)
            size += self._sizes.get(id(part), 1)
        if size > MOST_NODES:
            _refuse(f"more than {MOST_NODES} values, with aliases written out", mark)
        return size

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                _refuse(f"key {cut(key.value)} is not text; put it in quotes", key.start_mark)
            if key.value in seen:
                _refuse(f"key {show(key.value)} stands twice in one mapping", key.start_mark)
            seen.add(key.value)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            kind = node.tag.rpartition(":")[2]  # of `!!int x` and the like
            _refuse(f"{show(node.value)} can't be read as {cut(kind)}", node.start_mark)

    def construct_yaml_int(self, node: Any) -> int:
        number: int = super().construct_yaml_int(node)
        str(number)  # raises a ValueError if it has too many digits to be written again
        return number

    def refuse_date(self, node: Any) -> NoReturn:
        _refuse(f"{cut(str(node.value))} is a date; put it in quotes", node.start_mark)

    def refuse_tag(self, node: Any) -> NoReturn:
        problem = f"could not determine a constructor for the tag {show(node.tag)}"
        _refuse(problem, node.start_mark)


def _refuse(problem: str, mark: Any) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


_Loader.yaml_constructors = {
    **{
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag and tag.rpartition(":")[2] in ("bool", "float", "map", "null", "seq", "str")
    },
    "tag:yaml.org,2002:int": _Loader.construct_yaml_int,
    "tag:yaml.org,2002:timestamp": _Loader.refuse_date,
    None: _Loader.refuse_tag,
}


def read_yaml(path: Path) -> Any:
    """Read a YAML file safely; one that ends in ``.json`` as JSON.

    Raises
    ------
    ConfigError
        If the file can't be read, is too large, is not YAML, has a key twice in one mapping or
        one that is not text.
    """
    source = cut_path(str(path))
    text = _read_text(path, source)
    try:
        return _parse_json(text) if path.suffix == ".json" else yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = cut(" ".join(str(error.problem).split()), 2 * LONGEST_VALUE)
        quoted = "; text that holds a colon and a space needs quotes"
        hint = quoted if problem == "mapping values are not allowed here" else ""
        raise ConfigError(f"{source}: {place}not valid YAML: {problem}{hint}") from None
    except yaml.YAMLError as error:
        problem = cut(" ".join(str(error).split()), 2 * LONGEST_VALUE)
        raise ConfigError(f"{source}: not valid YAML: {problem}") from None
    except (RecursionError, ValueError) as error:
        problem = str(error) if isinstance(error, ValueError) else "too many levels of nesting"
        raise ConfigError(f"{source}: not valid JSON: {cut(problem, 120)}") from None


def _read_text(path: Path, source: str) -> str:
    """Read a regular file that is not too large; of others, reading might never end."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise ConfigError(f"{source}: not a regular file but a pipe or a device")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ConfigError(f"{source}: the file is too large; allowed: {MOST_BYTES} bytes")
        return content.decode()
    except FileNotFoundError:
        raise ConfigError(f"{source}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{source}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source}: not valid UTF-8 at byte {error.start}") from None


def _parse_json(text: str) -> Any:
    def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, value in pairs:
            if key in mapping:
                raise ValueError(f"key {show(key)} stands twice in one mapping")
            mapping[key] = value
        return mapping

    return json.loads(text, object_pairs_hook=each_once)


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


def _is_number(checker: jsonschema.TypeChecker, value: Any) -> bool:
    """Tell whether a value is a number that float32 holds with all its digits, or 0."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and (value == 0 or SMALLEST_NUMBER <= abs(value) <= LARGEST_NUMBER)


def _is_integer(checker: jsonschema.TypeChecker, value: Any) -> bool:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return whole and not isinstance(value, bool) and abs(value) <= LARGEST_INTEGER


def _match(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[Any]:
    r"""Match as JSON Schema has it: `$` is the very end, `\w` is ASCII, `\s` any space."""
    kinds = re.UNICODE if pattern == r"\S" else re.ASCII
    if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), value, kinds):
        yield jsonschema.ValidationError("does not match")


def _each_once(validator: Any, unique: bool, value: Any, schema: Any) -> Iterator[Any]:
    """Do what the library does, in time proportional to the length of a list."""
    if unique and isinstance(value, list) and _twice(value) is not None:
        yield jsonschema.ValidationError("is not unique")


def _twice(values: Sequence[Any]) -> int | None:
    """Return where the first value stands that a list had before."""
    seen: set[Hashable] = set()
    for number, value in enumerate(values):
        key = json.dumps(value, sort_keys=True, default=repr)
        if key in seen:
            return number
        seen.add(key)
    return None


_extend: Any = jsonschema.validators.extend  # has no type hints
_Validator = _extend(
    jsonschema.Draft202012Validator,
    {"pattern": _match, "uniqueItems": _each_once},
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"number": _is_number, "integer": _is_integer}
    ),
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
        raise ConfigError(f"{cut_path(source)}: the file is empty")
    lines = [f"{place_of(path, source)}: {problem}" for path, problem in _unusable(document, [])]
    if not lines:  # or else the validator might not even be able to write its messages
        errors = sorted(
            _Validator(schema).iter_errors(document), key=lambda e: list(map(str, e.path))
        )
        bounded = [list(error.path) for error in errors if error.validator == "maximum"]
        lines = [
            line
            for error in errors
            if not (error.validator == "type" and list(error.path) in bounded)  # says it better
            for line in _explain(error, source)
        ]
    lines = list(dict.fromkeys(lines))
    if lines:
        more = len(lines) - MOST_ERRORS
        tail = [f"... and {more} more"] if more > 0 else []
        raise ConfigError("\n".join(lines[:MOST_ERRORS] + tail))


def _unusable(value: Any, path: list[Any]) -> Iterator[tuple[list[Any], str]]:
    """Yield where a document has what no text, table or drawing can hold, whatever its schema."""
    if len(path) > MOST_LEVELS:
        yield path[:3], f"more than {MOST_LEVELS} levels of nesting"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str) and (code := unprintable(key)):
                yield path, f"key {show(key)} has the character {code}"
            yield from _unusable(item, [*path, str(key)])
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _unusable(item, [*path, number])
    elif isinstance(value, str):
        if code := unprintable(value):
            yield path, f"{show(value)} has the character {code}, which is not allowed"
    elif isinstance(value, int) and value.bit_length() > 1024:
        yield path, f"an integer of {value.bit_length()} binary digits is too large"
    elif value is not None and not isinstance(value, (int, float)):
        yield path, f"{cut(str(value))} is neither text nor a number; put it in quotes"


def whole_numbers(document: Any) -> Any:
    """Return a document in which 3.0 is 3, as JSON Schema has it."""
    if isinstance(document, Mapping):
        return {key: whole_numbers(value) for key, value in document.items()}
    if isinstance(document, list):
        return [whole_numbers(value) for value in document]
    whole = isinstance(document, float) and document.is_integer()
    return int(document) if whole else document


def with_numbers(document: Any, schema: Mapping[str, Any]) -> Any:
    """Return a document in which text that is a number is one, wherever a number belongs.

    Snakemake reads all that stands in brackets or braces after ``--config`` as text.
    """
    if isinstance(document, Mapping):
        keys = schema.get("properties", {})
        return {key: with_numbers(value, keys.get(key, {})) for key, value in document.items()}
    if isinstance(document, str) and schema.get("type") in ("number", "integer"):
        number = _as_number(document, whole=schema["type"] == "integer")
        return document if number is None else yaml.safe_load(number)
    return document


_OPEN: dict[str, str] = {"exclusiveMinimum": "more than", "exclusiveMaximum": "less than"}
_BOUNDS: dict[str, str] = {
    "minimum": "less than the minimum of",
    "maximum": "greater than the maximum of",
    "minItems": "shorter than",
    "maxItems": "longer than",
}


def _explain(error: jsonschema.ValidationError, source: str) -> Iterator[str]:
    """Yield the lines for one error of the validator."""
    path = list(error.absolute_path)
    value: Any = error.instance
    rule: Any = error.validator_value
    schema: Any = error.schema
    where = place_of(path, source)
    if error.validator == "enum" and isinstance(value, list):
        yield f"{where}: {show(value)} is not allowed; allowed: one of {', '.join(map(str, rule))}"
    elif error.validator == "enum":
        text, note = not_allowed(value, rule), schema.get("$comment")
        yield f"{where}: {text}{f' ({note})' if note else ''}"
    elif error.validator in _OPEN:
        yield f"{where}: {show(value)} is not allowed; allowed: {_OPEN[error.validator]} {rule}"
    elif error.validator == "additionalProperties":
        patterns = schema.get("patternProperties", {})
        described = [rule["description"] for rule in patterns.values()]
        allowed = [*schema.get("properties", {}), *described]
        for name in value:
            if name in allowed or any(re.search(pattern, name) for pattern in patterns):
                continue
            text = f"unknown key; allowed: {', '.join(allowed)}{suggestion(name, allowed)}"
            if "optimizer" in path and name in ("lr", "learning_rate"):
                text += "; the learning rate is the key learning_rate of the block, or of training"
            yield f"{place_of([*path, str(name)], source)}: {text}"
    elif error.validator == "required":
        missing = [name for name in rule if name not in value]
        known = dict.fromkeys([*missing, *schema.get("properties", {})])
        hints = (suggestion(str(name), list(known)) for name in value if name not in known)
        yield f"{where}: missing key: {', '.join(missing)}{next(filter(None, hints), '')}"
    elif error.validator == "type":
        yield f"{where}: {_wrong_type(value, [rule] if isinstance(rule, str) else rule)}"
    elif error.validator == "pattern" and rule == r"\S":
        yield f"{where}: {show(value)} is empty; allowed: text"
    elif error.validator == "pattern":
        yield f"{where}: {show(value)} is not allowed; allowed: {schema['description']}"
    elif error.validator == "not":
        yield f"{where}: {show(value)} is not allowed: {schema['not']['description']}"
    elif error.validator == "minItems" and len(value) == 0:
        yield f"{where}: {show(value)} is empty"
    elif error.validator == "maxLength":
        yield f"{where}: {len(value)} characters are too many; allowed: {rule}"
    elif error.validator == "uniqueItems":
        yield f"{where}: {show(value[_twice(value) or 0])} stands twice in the list"
    else:
        rules = _BOUNDS.get(str(error.validator), str(error.validator))
        yield f"{where}: {show(value)} is {rules} {show(rule)}"


def _wrong_type(value: Any, expected: Sequence[str]) -> str:
    allowed = " or ".join(_TYPES[name] for name in expected)
    if value is None:
        return f"there is no value; allowed: {allowed}"
    text = f"{show(value)} is not {allowed}"
    if isinstance(value, bool):
        hint = "YAML reads yes, no, on and off as true and false"
        return f"{text}: {hint}{'; put it in quotes' if 'string' in expected else ''}"
    if isinstance(value, str) and {"number", "integer"} & set(expected):
        number = _as_number(value, whole="number" not in expected)
        return f"{text}: YAML reads it as text; write {number}" if number else text
    if isinstance(value, float) and not math.isfinite(value):
        return f"{text} (infinite and undefined numbers are not allowed)"
    if isinstance(value, (int, float)) and "number" in expected:
        limits = f"{SMALLEST_NUMBER:.2g} to {LARGEST_NUMBER:.2g}"
        return f"{text} of float32; allowed: 0 and magnitudes from {limits}"
    if isinstance(value, (int, float)) and "integer" in expected and abs(value) > LARGEST_INTEGER:
        return f"{text} that tables can hold; the largest allowed is {LARGEST_INTEGER}"
    if isinstance(value, (str, int, float)) and "array" in expected:
        return f"{text}; write [{cut(str(value))}]"
    if isinstance(value, (int, float)) and "string" in expected:
        return f"{text}; put it in quotes"
    return text


def _as_number(text: str, whole: bool) -> str | None:
    """Return `text` as YAML wants a number (1e-3 needs a point: 1.0e-3), if it is one."""
    try:
        number = float(text)
    except ValueError:
        return None
    if not abs(number) <= LARGEST_NUMBER or (whole and not number.is_integer()):
        return None
    if whole:
        return str(int(number))
    mantissa, exponent, power = repr(number).partition("e")
    point = "" if "." in mantissa else ".0"
    return f"{mantissa}{point}{exponent}{power}"
