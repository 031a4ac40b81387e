"""What is read of a study's ``network.py`` without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradprop.analysis.names import names_of
from gradprop.components import network
from gradprop.errors import ConfigError
from gradprop.grid import loading
from gradprop.spec import Cell, Study
from tests.workspace import small

BUILD = '''"""Networks."""

import keras


def block(h, cell):
    """Return a block."""
    return keras.layers.Dense(cell.width, cell.phi)(h)


def other():
    return 1


def build(cell, blocks: int = 2, *, scale: float = 1, kind="plain", wide=False):
    """Return a network."""
    assert kind and scale and not wide
    return block(block(None, cell), cell) if blocks else None
'''
ARGUMENTS = {"blocks": 2, "scale": 1.0, "kind": "plain", "wide": False}


def write(folder: Path, text: str = BUILD) -> network.NetworkFile:
    folder.mkdir(exist_ok=True)
    (folder / network.FILE).write_text(text)
    found = network.read(folder)
    assert found is not None
    return found


def cells(folder: Path, **axes: Any) -> tuple[Cell, ...]:
    content = small(**{"initializer": "he_normal", **axes})
    path = folder / "study.yaml"
    path.write_text(repr(content))
    studies = loading.load_studies(
        {"studies": [folder.name], "seeds": 1}, "config.yaml", [folder.parent]
    )
    return studies[folder.name].cells


def test_its_arguments_are_axes_with_types(tmp_path: Path) -> None:
    found = write(tmp_path / "s")
    assert {name: one.default for name, one in found.arguments.items()} == ARGUMENTS
    assert [one.kind for one in found.arguments.values()] == [int, float, str, bool]
    grid = cells(tmp_path / "s", blocks={"from": 2, "to": 4}, scale=[1, 2.5])
    assert [cell.value("blocks") for cell in grid] == [2, 2, 3, 3, 4, 4]
    assert [cell.value("scale") for cell in grid] == [1.0, 2.5] * 3
    assert all(type(cell.value("scale")) is float for cell in grid)
    columns = grid[0].columns()
    assert columns["network"] == "network(blocks=2, kind=plain, scale=1.0, wide=False)"
    assert columns.items() >= ARGUMENTS.items()
    assert len({cell.id for cell in grid}) == 6
    assert cells(tmp_path / "s", scale=1)[0] == cells(tmp_path / "s", scale=1.0)[0]


def test_it_is_read_and_not_run(tmp_path: Path) -> None:
    found = write(tmp_path / "s", "raise SystemExit\n" + BUILD)
    assert cells(tmp_path / "s")[0].code == f"network={found.code}"


@pytest.mark.parametrize(
    ("old", "new", "moves"),
    [
        ('"""Return a block."""', "# a block", False),
        ("return 1", "return 2", False),
        ("cell.phi", "None", True),
        ("import keras", "import tensorflow.keras as keras", True),
        ("None, cell", "0, cell", True),
        ("blocks: int = 2", "blocks: int = 3", True),
    ],
)
def test_its_digest_is_that_of_what_builds(old: str, new: str, moves: bool, tmp_path: Path) -> None:
    before = write(tmp_path / "s").code
    after = write(tmp_path / "s", BUILD.replace(old, new)).code
    assert (before != after) is moves


def test_the_digest_is_in_the_ids_of_its_study_alone(tmp_path: Path) -> None:
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    (plain,) = cells(tmp_path / "without")
    write(tmp_path / "with")
    (built,) = cells(tmp_path / "with")
    assert cells(tmp_path / "without") == (plain,)
    assert (plain.code, plain.network.name) == ("", "none")
    assert built.id != plain.id
    write(tmp_path / "with", BUILD.replace("cell.phi", "None"))
    assert cells(tmp_path / "with")[0].id != built.id
    # Without the file the study's networks are perceptrons again.
    (tmp_path / "with" / network.FILE).unlink()
    assert cells(tmp_path / "with") == (plain,)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def built(cell): ...", "defines no function build; allowed: def build(cell, ...)"),
        ("build = 3", "defines no function build"),
        ("def build(): ...", ":1: build: allowed: arguments with names, the first one of which is"),
        ("def build(cell, *rest): ...", ":1: build: allowed: arguments with names"),
        ("\ndef build(cell, depth=3): ...", ":2: build: argument 'depth': choose another name"),
        ("def build(cell, status=3): ...", "argument 'status': choose another name"),
        ("def build(cell, units=3): ...", "'units': choose another name, because the table layers"),
        ("def build(cell, layer=3): ...", "choose another name, because every table has a column"),
        ("def build(cell, test_loss=3): ...", "choose another name, because the table steps has"),
        ("def build(cell, width=3): ...", "'width': choose another name, because every cell has a"),
        ("def build(cell, outputs=3): ...", "choose another name, because cell has an attribute"),
        ("def build(cell, seeds=3): ...", "choose another name, because a study has a key of this"),
        ("def build(cell, size=3): ...", ":1: build: argument 'size': the function never reads it"),
        ("def build(cell, a=3, b=2):\n    b = a", "argument 'b': the function never reads it, so"),
        ("def build(cell, a=3):\n    del a", "argument 'a': the function never reads it, so"),
        ("def build(cell, size): ...", "argument 'size': it needs a default, or one of the annot"),
        ("def build(cell, size: list): ...", "argument 'size': it needs a default"),
        ("def build(cell, size=[3]): ...", "'size': its default is no plain number, text, True"),
        ("def build(cell, size=3 * n): ...", "'size': its default is no plain number, text, True"),
        ("def build(cell, size: int = 0.5): ...", "'size': its default 0.5 is no int"),
        ("def build(cell, size=1e999): ...", "'size': its default inf is neither text nor a"),
        ("\n\ndef build(cell:", ":3: SyntaxError: "),
    ],
)
def test_what_does_not_fit_is_told_in_a_line(text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as told:
        write(tmp_path / "s", text)
    assert str(told.value).startswith(str(tmp_path / "s" / network.FILE))
    assert problem in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("axes", "problem"),
    [
        ({"block": 2}, "grid.block: unknown key; allowed: "),
        ({"blocks": "two"}, "grid.blocks: 'two' is not an integer"),
        ({"blocks": [2, 2]}, "grid.blocks: 2 stands twice in the list"),
        ({"kind": "a b"}, "grid.kind: 'a b' is not allowed; allowed: letters, digits"),
        ({"measurements": "spectra"}, "grid.measurements: "),
        ({"measurements": ["spectra"]}, "measurements: networks of network.py have none yet"),
        ({"precision": "float16"}, "precision: network.py decides in which format it computes"),
        ({"initializer": "lsuv"}, "initializer: lsuv scales kernels layer by layer"),
    ],
)
def test_mistakes_in_its_grid(axes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    write(tmp_path / "s")
    with pytest.raises(ConfigError) as told:
        cells(tmp_path / "s", **axes)
    assert problem in str(told.value)


def test_an_argument_without_a_default_has_to_be_in_the_grid(tmp_path: Path) -> None:
    write(tmp_path / "s", "def build(cell, size: int): return size")
    with pytest.raises(ConfigError, match=r"grid: missing key: size; every block needs it"):
        cells(tmp_path / "s")
    assert cells(tmp_path / "s", size=7)[0].value("size") == 7


def test_figures_select_and_divide_by_its_axes(tmp_path: Path) -> None:
    write(tmp_path / "s")
    figure = {
        **{"kind": "layer_profile", "title": "a", "statistic": "signal_log10_rms"},
        **{"hue": "blocks", "select": {"scale": 2.0}},
    }

    def check(**changes: Any) -> None:
        content = small(initializer="zeros", blocks=[2, 3], scale=[1.0, 2.0])
        content["figures"] = {"one": {**figure, **changes}}
        (tmp_path / "s/study.yaml").write_text(repr(content))
        loading.load_studies({"studies": ["s"]}, "c", [tmp_path])

    check()
    with pytest.raises(ConfigError, match=r"together that differ in scale \(1.0, 2.0\), as if"):
        check(select={})
    with pytest.raises(ConfigError, match=r"select.scale: '3.0' is not allowed; allowed: 1.0, 2"):
        check(select={"scale": 3.0})


def test_its_texts_have_display_names(tmp_path: Path) -> None:
    write(tmp_path / "s")

    def load(**names: Any) -> Study:
        content = small(initializer="zeros", kind=["plain", "odd"], blocks=[2, 3])
        figure = {"kind": "layer_profile", "title": "a", "statistic": "signal_log10_rms"}
        select = {"kind": ["plain", "Odd ones"], "blocks": 2}
        content["figures"] = {"one": {**figure, "hue": "kind", "select": select}}
        content["names"] = names
        (tmp_path / "s/study.yaml").write_text(repr(content))
        return loading.load_studies({"studies": ["s"]}, "c", [tmp_path])["s"]

    study = load(kind={"odd": "Odd ones"})
    assert names_of(study)["kind"] == {"odd": "Odd ones", "plain": "plain"}
    assert study.figures["one"]["select"]["kind"] == ["plain", "odd"]
    assert (
        "network, blocks 2, kind Odd ones, scale 1, not wide" in names_of(study)["network"].values()
    )
    with pytest.raises(ConfigError, match=r"names.kind.even: 'even' is not allowed; allowed: pl"):
        load(kind={"odd": "Odd ones", "even": "Even ones"})
    with pytest.raises(ConfigError, match=r"names.blocks: unknown key; allowed: .*, kind$"):
        load(kind={"odd": "Odd ones"}, blocks={"2": "two"})


@pytest.mark.parametrize(
    "body",
    [
        "return size",
        "size += 1",
        "return lambda: size",
        "return [size for _ in range(3)]",
        "def block():\n        return size",
        "return f'{size}'",
        "return dict(**locals())",
    ],
)
def test_an_argument_may_be_read_anywhere_in_the_function(body: str, tmp_path: Path) -> None:
    found = write(tmp_path / "s", f"def build(cell, size=3):\n    {body}\n")
    assert list(found.arguments) == ["size"]


def test_an_argument_cannot_have_the_name_of_a_statistic(tmp_path: Path) -> None:
    write(tmp_path / "s", "def build(cell, signal_log10_rms=3): return signal_log10_rms")
    with pytest.raises(ConfigError, match=r"'signal_log10_rms': choose another name, because a"):
        cells(tmp_path / "s")
