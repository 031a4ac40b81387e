"""A component looks the same in all figures, and its line is seen on white, in grey as well."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from gradprop import errors
from gradprop.components import activations, architecture, clipping, normalization, optimizers
from gradprop.components.initializers import INITIALIZERS
from gradprop.figures import drawing, lost, style
from gradprop.figures.drawing import KINDS, draw_alone, draw_study
from gradprop.grid import config, folders, loading
from gradprop.results import manifests, products
from gradprop.spec import Component
from tests.figures.test_figures import make_study
from tests.long import long_but
from tests.studies.invented import invent

CONTRAST = 3.0
NOT_INVENTED = ("histograms", "decision_boundary", "circle")  # have no table in `invent`
REGISTRIES: dict[str, Any] = {
    "initializer": INITIALIZERS,
    "activation": activations.ACTIVATIONS,
    "normalization": normalization.NORMALIZATIONS,
    "residual": architecture.RESIDUALS,
    "clipping": clipping.CLIPPINGS,
    "optimizer": optimizers.OPTIMIZERS,
}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    with mpl.rc_context():
        yield
    plt.close("all")


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.1."""
    values = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(colour: str) -> float:
    return 1.05 / (luminance(colour) + 0.05)


def registered() -> list[style.Look]:
    return [look for looks in style.LOOKS.values() for look in looks.values()]


def test_every_line_is_dark_enough_on_white() -> None:
    assert contrast("#767676") == pytest.approx(4.54, abs=0.01)  # of WCAG's own techniques
    colours = {look.colour for look in registered()} | {*style.COLOURS, *style.KIN.values()}
    for count in range(1, 12):
        colours |= set(style.sequence(count))
    assert min(map(contrast, colours)) >= CONTRAST


@pytest.mark.parametrize("parameter", REGISTRIES)
def test_looks_are_those_of_components_and_differ(parameter: str) -> None:
    """A component that is not listed has a look by its name: no registry waits for a colour."""
    registry, looks = REGISTRIES[parameter], style.LOOKS[parameter]
    assert {name.partition("(")[0] for name in looks} <= set(registry)
    pairs = [(look.colour, look.dash) for look in looks.values()]
    assert len(set(pairs)) == len(pairs)


def test_lines_that_are_not_told_by_dash_are_told_in_grey() -> None:
    """Or by the marker: two initializers of equal dash and about equal lightness differ in it."""
    looks = style.LOOKS["initializer"].values()
    for one, other in itertools.combinations(looks, 2):
        lightness = [116 * luminance(look.colour) ** (1 / 3) - 16 for look in (one, other)]
        told = one.dash != other.dash or one.marker != other.marker
        assert told or abs(lightness[0] - lightness[1]) > 5, (one, other)


def test_a_component_looks_the_same_wherever_it_stands() -> None:
    names = ["he_normal", "orthogonal", "zeros", "glorot_normal"]
    alone = {name: style.looks([name], "initializer")[name] for name in names}
    for order in itertools.permutations(names):
        assert style.looks(order, "initializer") == {name: alone[name] for name in order}
    renamed = {"components": {"initializer": {"ours": Component("he_normal")}}}
    assert style.looks(["ours"], "initializer", renamed)["ours"] == alone["he_normal"]
    # With a parameter it has the colour of its name.
    found = style.looks(["orthogonal(gain=1.5)", "zeros"], "initializer")
    assert found["orthogonal(gain=1.5)"] == alone["orthogonal"]
    # An own component has a colour by its name, whatever else is drawn.
    named = {"Mine": Component("mine"), "He": Component("he_normal")}
    labels = {"components": {"initializer": named}}
    colours = {
        style.looks(values, "initializer", labels)["Mine"].colour
        for values in (["Mine"], ["He", "Mine"], ["Mine", "He"])
    }
    assert len(colours) == 1


@pytest.mark.parametrize("dashed", [True, False])
@pytest.mark.parametrize("count", [2, 10, 11, 40])
def test_no_two_lines_have_the_same_colour_and_dash(count: int, dashed: bool) -> None:
    values = [*list(INITIALIZERS), *(f"own_{n}" for n in range(40))][:count]
    labels = {"components": {"initializer": {value: Component(value) for value in values}}}
    found = style.looks(values, "initializer", labels, dashed=dashed).values()
    assert len({(look.colour, look.dash) for look in found}) == count
    if not dashed and count <= len(style.COLOURS):
        assert len({look.colour for look in found}) == count
        assert {look.dash for look in found} == {style.SOLID}


def looks_of(labels: list[str]) -> dict[Any, style.Look]:
    components = {"initializer": {label: Component.parse(label) for label in labels}}
    return style.looks(labels, "initializer", {"components": components})


def test_numbers_and_what_differs_in_one_number_are_a_sequence() -> None:
    found = looks_of(["identity(gain=0.5)", "identity", "identity(gain=1.5)"])
    assert [look.colour for look in found.values()] == style.sequence(3)
    # The middle and the ends are those of five.
    assert style.sequence(3) == style.sequence(5)[::2]
    scales = [f"variance_scaling(scale={s})" for s in (0.5, 0.8, 2.0, 3.0, 4.0)]
    assert [v.colour for v in looks_of(scales).values()] == style.sequence(5)
    few = looks_of(["variance_scaling", "variance_scaling(scale=2.0)"])
    listed = style.LOOKS["initializer"]
    assert few == {name: listed[name] for name in few}
    assert style.colours([3, 1, 2, 1]) == dict(zip([1, 2, 3], style.sequence(3), strict=True))


def test_an_axis_of_logarithms_is_labelled_with_powers_of_ten() -> None:
    _, axes = plt.subplots()
    axes.plot([0, 1], [-37.0, 4.0])
    style.powers_of_ten(axes.yaxis)
    low, high = axes.get_ylim()
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert len(ticks) > 2
    assert all(tick == round(tick) for tick in ticks)
    assert axes.yaxis.get_major_formatter()(-20.0, 0) == "$10^{-20}$"
    assert style.quantity(style.label("signal_log10_rms")) == "RMS of dC/dz"
    assert style.quantity(style.label("stable_rank_log10")) == "stable rank"


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (-1.6, -0.45, ["0.05", "0.1", "0.2"]),
        (0.0, 0.62, ["1", "2", "3", "4"]),
        (0.02, 0.11, ["1.05", "1.1", "1.15", "1.2", "1.25"]),
        (-40.2, -39.9, [r"$8 \times 10^{-41}$", "$10^{-40}$", r"$1.2 \times 10^{-40}$"]),
        (-400.4, -399.5, ["$5 \\times 10^{-401}$", "$10^{-400}$", "$2 \\times 10^{-400}$"]),
    ],
)
def test_a_short_axis_of_logarithms_has_round_numbers(
    low: float, high: float, texts: list[str]
) -> None:
    figure, axes = plt.subplots()
    style.powers_of_ten(axes.yaxis)
    axes.set_ylim(low, high)
    figure.draw_without_rendering()
    assert [label.get_text() for label in axes.get_yticklabels()] == texts


def test_a_legend_of_numbers_has_a_title_whatever_their_names() -> None:
    assert style.title_of_numbers(pd.Series([1, 32]), "loss_scale") == "loss scale"
    assert style.title_of_numbers(pd.Series(["1", "1,024"]), "loss_scale") == "loss scale"
    assert style.title_of_numbers(pd.Series(["1", "none"]), "loss_scale") is None


def test_panels_say_that_they_have_scales_of_their_own() -> None:
    _, panels = plt.subplots(2, 2, sharey=True, squeeze=False)
    assert style.own_scales(panels) == []
    _, panels = plt.subplots(2, 2, sharey="row", squeeze=False)
    panels[0, 0].set_ylim(0, 9)
    assert [entry.get_label() for entry in style.own_scales(panels)] == [
        "Rows have scales of their own"
    ]
    _, panels = plt.subplots(1, 2, squeeze=False)
    panels[0, 0].set_ylim(0, 9)
    assert [entry.get_label() for entry in style.own_scales(panels)] == [
        "Panels have scales of their own"
    ]


# ------------------------------------------------------------------------------- the user's style


def test_the_delivered_style_is_read(tmp_path: Path) -> None:
    found = style.read(folders.PROJECT / folders.STYLE)
    assert found["figure.figsize"] == [10, 4]
    assert found["grid.color"] == "#e6e6e6"
    here = folders.styles(tmp_path)
    assert here == [tmp_path / "config/figures.mplstyle", folders.PROJECT / folders.STYLE]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("font.size 9", "line 2: font.size 9: no setting; allowed: setting: value"),
        ("font.sise: 9", "line 2: font.sise: Matplotlib has no such setting"),
        ("font.size: big", "line 2: font.size: 'big' (Could not convert 'big' to float)"),
    ],
)
def test_a_mistake_in_a_style_is_told_with_its_place(
    tmp_path: Path, line: str, problem: str
) -> None:
    path = tmp_path / "figures.mplstyle"
    path.write_text(f'# ours: "all"\n{line}  # here\n')
    with pytest.raises(errors.ConfigError) as caught:
        style.read(path)
    assert str(caught.value) == f"{path}: {problem}"


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.*"))
    }


def test_another_style_draws_figures_anew_and_changes_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(tmp_path, {}, kinds=["learning_curves"])
    results, reports = tmp_path / "small", tmp_path / "reports"
    assert draw_study(study, results, reports) == ["learning_curves"]
    before = digests(reports / "data")
    manifest = products.figures(reports, study)
    assert manifests.discard_false([manifest]) == []
    assert manifest.exists()
    own = tmp_path / "config" / "figures.mplstyle"
    own.parent.mkdir()
    own.write_text("figure.figsize: 6, 4\nfont.size: 8\n")
    monkeypatch.chdir(tmp_path)
    style.use(style.read(own))
    assert draw_study(study, results, reports) == ["learning_curves"]
    assert digests(reports / "data") == before
    stated = manifests.read(manifest).inputs
    assert any(path.endswith("config/figures.mplstyle") and sum_ for path, sum_ in stated.items())
    own.write_text("figure.figsize: 7, 4\n")
    manifests.discard_false([manifest])
    assert not manifest.exists()


def test_text_is_text_in_svg_and_truetype_in_pdf(tmp_path: Path) -> None:
    study = make_study(tmp_path, {}, kinds=["learning_curves"])
    path = draw_alone(study, tmp_path / "small", tmp_path, "learning_curves", "svg", None)
    assert path == tmp_path / "figures/small/learning_curves-10in.svg"
    assert ">He normal</text>" in path.read_text(encoding="utf-8")
    path = draw_alone(study, tmp_path / "small", tmp_path, "learning_curves", "pdf", 3.25)
    assert path.name == "learning_curves-3.25in.pdf"
    content = path.read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert b"/MediaBox [ 0 0 234 " in content  # 3.25 times 72 points
    with pytest.raises(errors.ConfigError, match=r"2 panels .* the least width is 2.6in"):
        draw_alone(study, tmp_path / "small", tmp_path, "learning_curves", "pdf", 2.0)
    with pytest.raises(errors.ConfigError, match=r"learning_curve'.*learning_curves"):
        draw_alone(study, tmp_path / "small", tmp_path, "learning_curve", "pdf", None)


@pytest.mark.parametrize("width", [3.25, 6.75])
def test_a_narrow_figure_has_all_its_text(width: float) -> None:
    rows = pd.DataFrame(
        {
            "initializer": np.repeat(["he_normal", "standard_heuristic", "zeros"], 4),
            "layer": list(range(1, 5)) * 3,
            "median": np.linspace(-20, 5, 12),
            **{"low": np.nan, "high": np.nan, "statistic": "signal_log10_rms"},
            **{"networks": 3, "finite": 3, "zero": 0, "diverged": 0, "missing": 0},
        }
    )
    options = {"statistic": "signal_log10_rms", "hue": "initializer"}
    with mpl.rc_context({"figure.figsize": (width, width)}):
        figure = KINDS["layer_profile"].draw(rows, options)
    expected = width if width < style.NARROW else width / 2
    assert figure.get_size_inches()[0] == pytest.approx(expected)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    box, (across, upwards) = figure.get_tightbbox(renderer), figure.get_size_inches()
    assert box.x0 > -0.01 and box.y0 > -0.01
    assert box.x1 < across + 0.01 and box.y1 < upwards + 0.01
    assert {text.get_fontsize() for text in figure.legends[0].texts} == {9.5}


def test_figures_show_names_and_files_keep_labels(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"initializer": ["he_normal", "standard_heuristic"]},
                       kinds=["learning_curves"])  # fmt: skip
    draw_study(study, tmp_path / "small", tmp_path)
    numbers = pd.read_csv(tmp_path / "data/small/learning_curves.csv")
    assert set(numbers["initializer"]) == {"he_normal", "standard_heuristic"}
    told = (tmp_path / "data/small/learning_curves.json").read_text(encoding="utf-8")
    drawn = (tmp_path / "figures/small/learning_curves.svg").read_text(encoding="utf-8")
    for text in (told, drawn):
        assert "standard heuristic" in text and "He normal" in text
        assert "standard_heuristic" not in text and "he_normal" not in text


@pytest.mark.parametrize("kind", ["steps_to_target", "learning_time"])
def test_groups_of_which_some_arrive_are_not_said_never_to(kind: str) -> None:
    rows = pd.DataFrame(
        {
            "initializer": "he_normal",
            "depth": [2, 5],
            "median": [9.0, np.inf],
            **{"low": 8.0, "high": [10.0, np.inf], "networks": 5, "arrived": [5, 2]},
            **{"arrives": [True, False], "diverged": 0, "reciprocal_widths": 0.1},
        }
    )
    options = {"hue": "initializer", "statistic": "test_accuracy", "level": 0.5}
    figure = KINDS[kind].draw(rows, options)
    assert "2 of 5" in [text.get_text() for text in figure.axes[0].texts]
    entries = [text.get_text() for text in figure.legends[0].texts]
    assert {lost.LATE, lost.ARRIVED} <= set(entries)
    assert not any("never" in entry for entry in entries)


@pytest.mark.parametrize(
    "name", long_but(["ng2017"], folders.names([folders.PROJECT / folders.STUDIES]))
)
def test_figures_of_the_delivered_studies(name: str) -> None:
    """No id is in any text; every line is seen on white and is told from the others."""
    path = folders.PROJECT / folders.STUDIES / name / folders.STUDY
    study = loading.build_study(name, config.read_mapping(path), 2, str(path), path.parent)
    tables = invent(study)
    for figure, settings in study.figures.items():
        if settings["kind"] in NOT_INVENTED:
            continue
        kind = drawing.kinds_of(study)[settings["kind"]]
        rows = drawing._rows(kind, tables, settings)
        if rows.empty:
            continue
        rows, options = drawing._with_names(rows, study, settings)
        drawn = kind.draw(rows, options)
        texts = [text.get_text() for text in drawn.findobj(Text)]
        texts += [kind.describe(rows, options), drawing._caption(study, settings)]
        ids = re.compile(r"[a-z]_[a-z]{2}|\(\w+=|\d\.\d{6}")
        assert not [text for text in texts if ids.search(text)], figure
        lines = [line for axes in drawn.axes for line in axes.lines]
        colours = {str(mpl.colors.to_hex(line.get_color())) for line in lines}
        white = {"#ffffff"} if settings["kind"] == "trainability_map" else set()  # on a map
        assert min(map(contrast, colours - white), default=CONTRAST) >= CONTRAST, figure
        legends = [line for legend in drawn.legends for line in legend.get_lines()]
        looks = [
            (line.get_color(), vars(line)["_dash_pattern"])
            for line in legends
            if line.get_linestyle() != "None" and line.get_color() != "#4d4d4d"
        ]
        assert len({str(look) for look in looks}) == len(looks), figure
        plt.close(drawn)
