"""Whatever a configuration holds: studies, or a few short lines that say what is wrong."""

from __future__ import annotations

import datetime
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gradprop.errors import ConfigError
from gradprop.grid import config, folders, loading, plan, schema, sharding
from gradprop.spec import Study, canonical_json
from tests.workspace import ROOT, Workspace

STUDY_SCHEMA: Any = schema.study_schema()
CONFIG_SCHEMA: Any = schema.config_schema()
LONGEST_LINE = 2000  # the names of all statistics are 900 characters
MOST_REPEATED = 200
MOST_MEMORY = 1 << 20  # kibibytes
FORGET = Path("/proc/self/clear_refs")  # of Linux: a 5 forgets this process's largest memory

LONG = "\N{SNOWMAN}" * 5000  # any other text is ours
# Sizes that are legal are for the test of limits, not for this one.
HOSTILE: list[Any] = [
    *(None, True, False, "", "no", [], {}, [[]], [{}], {"name": None}, {"from": 1}),
    *(-1, 2**63, 2**64, 10**400, -(10**400), 0.5, -0.0, math.nan, math.inf, -math.inf),
    *(1e39, 1e-39, 5e-324, 1.7e308, "1e-3", "1e999", "0x10", "9" * 5000),
    *("\ud800", "a\0b", "name\n", "\x1b[31m", "\uffff", "{0, 1}", "$\\frac{$", "$", "../x"),
    *("data", "normal(", "lsuv(examples=Infinity)", f"normal(stddev={'[' * 5000})"),
    *(LONG, [LONG], {LONG: LONG}, [[LONG, {"name": LONG}]], {"name": LONG}, {"a": {"b": LONG}}),
    *({7: 1}, {None: 1}, {True: 1}, {1.5: 1}, {"\ud800": 1}, {"a\0": 1}),
    *(datetime.date(2026, 1, 1), b"bytes", {1, 2}, list(range(300)), [1, "a"] * 150),
]
# What a text can hold at the place of a value.
RAW = [
    *("!!bool maybe", "!!int x", "!!float x", "!!timestamp x", "!!int ''", "!!float ''"),
    *("2026-02-31", "9" * 5000, "0x" + "f" * 5000, "1" + ":59" * 3000, ".nan", "-.inf"),
    *("[" * 5000, "{a: " * 3000, "&a [*a]", "&a {b: *a}", "*none", "!!python/object:os.system {}"),
    *("!!set {a}", "!!binary aGk=", "!!omap [a: 1]", "{7: 1}", "{null: 1}", "{a: 1, a: 2}"),
    *("'\x00'", '"\\0"', '"\\ud800"', "\t", "%", "|", "{<<: 3}", "{<<: [{a: 1}, 2]}", "? [1]"),
    "[&a [x, x, x, x, x, x, x, x, x, x], &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a], "
    + ", ".join(f"&c{i} [{', '.join(8 * [f'*c{i - 1}' if i else '*b'])}]" for i in range(20))
    + "]",
    f"!!{LONG} x",
    f"*{LONG}",
    f"!!int {LONG}",
]
BASE: dict[str, Any] = {
    "title": "A study",
    "question": "Why?",
    "grid": {
        "dataset": {"name": "circles", "examples": 40},
        "depth": [1, 2],
        "width": 3,
        "activation": "tanh",
        "initializer": ["zeros", {"name": "normal", "stddev": 0.3}],
        "learning_rate": 0.1,
        "batch_size": 8,
        "epochs": 1,
    },
    "figures": {"loss": {"kind": "learning_curves", "title": "L", "statistic": "train_loss",
                         "columns": "depth", "hue": "initializer"}},
    "names": {"initializer": {"normal(stddev=0.3)": "Normal, $\\sigma$ = 0.3"}},
}  # fmt: skip


def valid(draw: st.DrawFn, schema: Any) -> Any:
    """Draw a value that a part of the study's schema takes."""
    if "$ref" in schema:
        referred = STUDY_SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        schema = {**schema, **referred, "default": schema.get("default")}
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    if "if" in schema:
        branch = schema["then"] if draw(st.booleans()) else schema["else"]
        if branch is schema["then"] and "allOf" in branch:
            branch = draw(st.sampled_from(branch["allOf"]))
            name = draw(st.sampled_from(branch["if"]["properties"]["name"]["enum"]))
            return {**draw_object(draw, branch["then"]), "name": name}
        return valid(draw, branch)
    if "items" in schema:
        return [valid(draw, schema["items"]) for _ in range(draw(st.integers(1, 2)))]
    if "properties" in schema:
        return draw_object(draw, schema)
    if schema.get("type") == "boolean":
        return draw(st.booleans())
    if schema.get("type") == "integer":
        low = schema.get("minimum", 1)
        return draw(st.integers(low, min(low + 40, schema.get("maximum", low + 40))))
    if schema.get("type") == "number":
        low = schema.get("minimum", schema.get("exclusiveMinimum", -3))
        high = schema.get("maximum", schema.get("exclusiveMaximum", low + 3))
        return low + (high - low) * draw(st.sampled_from([0.25, 0.5, 0.75]))
    return schema.get("default") or draw(st.sampled_from(["text", "{0, 1}", "$x$"]))


def draw_object(draw: st.DrawFn, schema: Any) -> dict[str, Any]:
    known = schema["properties"]
    chosen = draw(st.lists(st.sampled_from(sorted(known)), max_size=3, unique=True))
    wanted = dict.fromkeys([*schema.get("required", ()), *chosen])
    return {key: valid(draw, known[key]) for key in wanted if key != "name"}


def places(node: Any) -> list[tuple[Any, Any]]:
    """Return every container in a document with a key or index."""
    keys = list(node) if isinstance(node, dict) else range(len(node))
    found = [(node, key) for key in keys]
    inner = [node[key] for key in keys if isinstance(node[key], (dict, list))]
    return found + [place for part in inner for place in places(part)]


def spoil(draw: st.DrawFn, document: Any, raw: dict[str, str]) -> None:
    """Replace values at random places, or add keys."""
    for number in range(draw(st.integers(0, 2))):
        container, key = draw(st.sampled_from(places(document)))
        value = draw(st.sampled_from(HOSTILE))
        what = draw(st.sampled_from(["value", "raw", "key"]))
        if what == "raw":
            value = f"@@{len(raw)}@@"
            raw[value] = draw(st.sampled_from(RAW))
        if what == "key" and isinstance(container, dict):
            key = draw(
                st.sampled_from([LONG, "sedes", "a\0b", "\ud800", 7, None, True, f"k{number}"])
            )
        container[key] = json.loads(json.dumps(value)) if isinstance(value, (list, dict)) and all(
            isinstance(k, str) for k in (value if isinstance(value, dict) else [])
        ) else value  # fmt: skip


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, str]:
    """Draw the texts of a configuration and of its study."""
    study = json.loads(json.dumps(BASE))
    block = STUDY_SCHEMA["$defs"]["block"]["properties"]
    for key in draw(st.lists(st.sampled_from(sorted(block)), max_size=3)):
        study["grid"][key] = valid(draw, block[key])
    for key in draw(st.lists(st.sampled_from(["probes", "statistics", "training"]), max_size=2)):
        study[key] = valid(draw, STUDY_SCHEMA["properties"][key])
    if draw(st.booleans()):
        figure = STUDY_SCHEMA["$defs"]["figure"]
        study["figures"]["more"] = draw_object(draw, figure)
    settings_ = {"studies": ["one"], "seeds": draw(st.integers(1, 3)), "stack_size": 3.0,
                 "report": {"title": "A {0, 1}", "file": "x.html"}}  # fmt: skip
    raw: dict[str, str] = {}
    spoil(draw, study, raw)
    if draw(st.integers(0, 3)) == 0:
        spoil(draw, settings_, raw)
    written = []
    for document in (settings_, study):
        text = yaml.dump(document, sort_keys=False)
        for mark, fragment in raw.items():
            text = text.replace(f"'{mark}'", fragment)
        written.append(text)
    return written[0], written[1]


def load(settings_text: str, study_text: str) -> Study | None:
    """Load a configuration as the Snakefile does; check what is said if it is refused."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "one").mkdir()
        for file, text in (("config.yaml", settings_text), ("one/study.yaml", study_text)):
            (folder / file).write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            document = config.read_mapping(folder / "config.yaml")
            parts = {"config.yaml": document}
            studies = loading.load_studies(document, "config.yaml", [folder], parts)
        except ConfigError as error:
            for line in str(error).splitlines():
                assert len(line) <= LONGEST_LINE
                assert line.count(LONG[0]) + line.count("0" * 100) <= MOST_REPEATED
                assert line.isprintable()
            assert len(str(error).splitlines()) <= config.MOST_ERRORS + 1
            return None
    (study,) = studies.values()
    canonical_json(study.definition).encode()
    assert max(map(len, sharding.shards(study.cells))) <= 200
    return study


def memory(of: str) -> int:
    """Return a line of this process's status in kibibytes; 0 where it cannot be measured."""
    if not os.access(FORGET, os.W_OK):
        return 0
    lines = FORGET.with_name("status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{of}:"))


def run(examples: int) -> tuple[int, dict[str, Study]]:
    """Try many configurations; return how many were refused, and the studies that were not."""
    refused, loaded = 0, {}
    if os.access(FORGET, os.W_OK):  # other tests ran in this process
        FORGET.write_text("5")
    before = memory("VmRSS")

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(texts())
    def check(drawn: tuple[str, str]) -> None:
        nonlocal refused
        if study := load(*drawn):
            loaded[drawn[1]] = study
        else:
            refused += 1
        assert memory("VmHWM") - before < MOST_MEMORY

    check()
    print(f"{refused} refused, {len(loaded)} different ones loaded")
    return refused, loaded


def test_a_few_hundred_configurations() -> None:
    refused, loaded = run(300)
    assert min(len(loaded), refused) > 20


@pytest.fixture(scope="module")
def thousands() -> tuple[int, dict[str, Study]]:
    """Return what became of 3,000 configurations."""
    return run(3000)


def workspace_of(studies: Iterable[str], folder: Path) -> Workspace:
    """Return a workspace with studies of these texts, called s0, s1 and so on."""
    workspace = Workspace(folder)
    shutil.rmtree(folder / "config/studies/tiny")
    for number, text in enumerate(studies):
        path = folder / f"config/studies/s{number}/study.yaml"
        path.parent.mkdir()
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
    names = folders.names([folder / "config/studies"])
    settings_ = {"studies": names, "limits": {"hours": 1e6, "memory": 1000}}
    (folder / "config/config.yaml").write_text(yaml.safe_dump(settings_))
    return workspace


@pytest.mark.long
def test_what_is_loaded_of_thousands_is_planned(
    thousands: tuple[int, dict[str, Study]], tmp_path: Path
) -> None:
    refused, loaded = thousands
    assert min(len(loaded), refused) > 200
    workspace = workspace_of(loaded, tmp_path)
    assert "This was a dry-run" in workspace.build("-n")
    assert not (tmp_path / "results").exists()


@pytest.mark.long
def test_a_hundred_of_thousands_give_a_report(
    thousands: tuple[int, dict[str, Study]], tmp_path: Path
) -> None:
    """Those that take least time."""

    def seconds(text: str) -> float:
        return sum(plan.job_need(shard, 40).seconds
                   for shard in sharding.shards(thousands[1][text].cells).values())  # fmt: skip

    workspace = workspace_of(sorted(thousands[1], key=seconds)[:100], tmp_path)
    said = workspace.build()
    assert "Traceback" not in said
    report = (tmp_path / "reports/index.html").read_text(encoding="utf-8")
    assert all(f'id="study-s{number}"' in report for number in range(100))
    assert "all requested files are present" in workspace.build()


@pytest.mark.parametrize("value", HOSTILE, ids=map(str, range(len(HOSTILE))))
def test_every_hostile_value_as_every_setting(value: Any) -> None:
    """The values of a document that no file has been, as an option of Snakemake might give them."""
    for key in CONFIG_SCHEMA["properties"]:
        document = {"studies": ["mechanism"], key: value}
        try:
            loading.load_studies(document, "--config", [ROOT / "config/studies"])
        except ConfigError as error:
            assert max(map(len, str(error).splitlines())) <= LONGEST_LINE
