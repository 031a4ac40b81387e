"""The report on a network of one's own, the comparison of two, and what the shell says."""

from __future__ import annotations

import doctest
import html
import inspect
import math
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import gradprop
from gradprop import cli, monitor
from gradprop.advice import Finding, advice, alarms
from gradprop.advice.findings import KINDS
from gradprop.errors import GradpropError
from gradprop.inspection import Run, comparison, page, pictures, watching
from tests.browser import check_accessibility, check_report
from tests.monitor.networks import L, data

ODD = 'a <b>&"$x$'
LAYERS = 6


def stacked(activation: str, initializer: Any, width: int = 16, seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    hidden = [L.Dense(width, activation, kernel_initializer=initializer) for _ in range(LAYERS)]
    model = keras.Sequential([keras.Input((7,)), *hidden, L.Dense(3, "softmax")])
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folders of a network whose gradients vanish and of one that learns."""
    x, y = data()
    found = {}
    given = {ODD: ("sigmoid", "glorot_uniform"), "good": ("relu", "he_normal")}
    for name, (activation, initializer) in given.items():
        found[name] = tmp_path_factory.mktemp("runs") / name
        monitor = gradprop.Monitor(found[name])
        model = stacked(activation, initializer)
        model.fit(x, y, epochs=4, verbose=0, callbacks=[monitor], validation_data=(x, y))
    return found


class Seen(HTMLParser):
    """What a page has: ids, images, what links point to, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.tags: Counter[str] = Counter()
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags[tag] += 1
        self.ids += [known["id"]] if known.get("id") else []  # type: ignore[list-item]
        self.targets += [str(known["href"])] if "href" in known else []
        self.images += [known] if tag == "img" else []

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.mark.parametrize("module", [watching, comparison])
def test_the_examples_are_right(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


@pytest.mark.parametrize("name", ["Monitor", "advise", "compare", "probe"])
def test_docstrings_say_everything(name: str) -> None:
    thing = getattr(gradprop, name)
    text = inspect.getdoc(thing) or ""
    sections = re.split(r"\n(\w+)\n-{3,}\n", text)
    known = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert {"Parameters", "Raises", "Examples"} <= set(known)
    assert ("Attributes" if name == "Monitor" else "Returns") in known
    heads = [
        line.partition(" : ")[0] for line in known["Parameters"].splitlines() if line[0] != " "
    ]
    listed = [parameter.strip() for head in heads for parameter in head.split(",")]
    assert listed == list(inspect.signature(thing).parameters)
    assert ">>> import gradprop" in known["Examples"]


def test_a_recorded_run_is_read_without_keras(folders: dict[str, Path]) -> None:
    code = (
        "import sys, gradprop; assert not {'numpy', 'keras'} & set(sys.modules); "
        "print(gradprop.compare(sys.argv[1], sys.argv[1])); "
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(folders["good"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Both runs have the diagnosis “healthy”.")


def test_the_page_is_whole_and_asks_for_nothing(folders: dict[str, Path], tmp_path: Path) -> None:
    written = page.report(Run.read(folders[ODD]), tmp_path / "deep" / "mine.html")
    assert written.path is not None
    assert written.path.read_text(encoding="utf-8") == written.html
    seen = Seen(written.html)
    assert len(seen.ids) == len(set(seen.ids))
    assert all(target.startswith("#") and target[1:] in seen.ids for target in seen.targets)
    assert [image["src"][:5] for image in seen.images if image["src"]] == ["data:"] * 6
    assert all(len(image["alt"] or "") > 60 for image in seen.images)
    assert not seen.tags["script"] and not seen.tags["link"] and not seen.tags["b"]
    assert "default-src 'none'" in written.html
    assert not re.search(r"(src|href)=.?https?:", written.html)
    assert ODD in seen.text
    for part in ("decades of |dC/dz|", "as wide as the usual band", "keras.layers.", "softmax"):
        assert part in seen.text


def test_the_same_tables_give_the_same_bytes(folders: dict[str, Path]) -> None:
    first, second = (page.report(Run.read(folders["good"])).html for _ in range(2))
    assert first == second


def test_the_page_says_what_the_tables_say(folders: dict[str, Path]) -> None:
    run = Run.read(folders[ODD])
    assert run.diagnosis.kind == "vanishing"
    text = Seen(page.report(run).html).text
    assert run.diagnosis.sentence in text
    first = run.layers[run.layers["step"] == 0].set_index("layer")["signal_log10_rms"]
    drawn = pictures.all_of(run)
    said = f"is {first[LAYERS]:.2f} in hidden layer {LAYERS} and {first[1]:.2f} in layer 1"
    assert said in drawn["by-layer"].alt
    lowest = run.layers["signal_log10_rms"].min()
    assert f"The smallest is {lowest:.2f} in layer 1" in drawn["signals"].alt
    steps = run.steps.sort_values("step")
    assert f"to {steps['minibatch_loss'].iloc[-1]:.3g} at step 15" in drawn["loss"].alt


def test_a_run_that_was_killed_has_a_report(folders: dict[str, Path], tmp_path: Path) -> None:
    for table in ("layers", "steps", "network"):
        (tmp_path / "killed" / table).mkdir(parents=True)
        for path in (folders[ODD] / table).glob("*.parquet"):
            if path.stem in ("0000000000", "run"):
                (tmp_path / "killed" / table / path.name).write_bytes(path.read_bytes())
    run = Run.read(tmp_path / "killed")
    text = Seen(page.report(run).html).text
    assert "vanishing" in text and "Everything was measured." in text


def test_the_drawing_leaves_the_users_settings_alone(folders: dict[str, Path]) -> None:
    mpl.rcParams["lines.linewidth"] = 7.0
    before = dict(mpl.rcParams)
    page.report(Run.read(folders["good"]))
    assert dict(mpl.rcParams) == before
    mpl.rcdefaults()


def test_a_notebook_shows_it_escaped(folders: dict[str, Path]) -> None:
    run = Run.read(folders[ODD])
    made = page.report(run)
    (source,) = re.findall(r'srcdoc="([^"]*)"', made._repr_html_())
    assert html.unescape(source) == made.html
    shown = run.diagnosis._repr_html_()
    assert html.escape(run.diagnosis.sentence) in shown
    names = run.network.assign(name="<script>alert(1)</script>")
    odd = Run(run.name, run.layers, run.steps, names, run.unmeasured, run.cells)
    for text in (odd.diagnosis._repr_html_(), page.report(odd).html):
        assert "<script" not in text and "&lt;script" in text


def test_theory_is_compared_with_the_weights_themselves() -> None:
    x, y = data(examples=64)
    model = stacked("linear", keras.initializers.RandomNormal(stddev=0.1), width=64)
    run = gradprop.probe(model, x, y).run
    kernels = [layer.kernel.numpy().astype(float) for layer in model.layers]
    expected = [np.mean(kernel**2) * len(kernel) for kernel in kernels[1:LAYERS]]
    np.testing.assert_allclose(run.causes["chi_1"], expected, rtol=1e-5)
    assert list(run.causes["layer"]) == list(range(1, LAYERS))
    signals = run.layers["signal_log10_rms"].to_numpy()[:LAYERS]
    np.testing.assert_allclose(
        run.causes["measured"], 10 ** (2 * (signals[:-1] - signals[1:])), rtol=1e-9
    )
    rate = np.mean(0.5 * np.log10(expected))
    assert run.decades_per_layer == pytest.approx(rate, rel=1e-6)
    assert run.lost_after == pytest.approx(2 / abs(rate), rel=1e-6)
    line = pictures.predicted(run)
    assert list(line.index) == list(range(1, LAYERS + 1))
    assert line[LAYERS] == signals[-1]
    # 64 units: each of five factors scatters by sqrt(2 / 64) of itself.
    assert line[1] == pytest.approx(signals[0], abs=0.25)
    assert line[1] == pytest.approx(signals[-1] + rate * (LAYERS - 1), abs=1e-9)


@pytest.mark.parametrize("between", ["normalization", "skip", "pooling"])
def test_theory_is_silent_where_it_does_not_speak(between: str) -> None:
    inputs = keras.Input((8, 8, 3))
    h = L.Conv2D(4, 3, padding="same", activation="tanh", name="first")(inputs)
    if between == "normalization":
        h = L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3, padding="same")(h)))
    elif between == "skip":
        h = L.Add()([h, L.Conv2D(4, 3, padding="same", activation="tanh")(h)])
    else:
        h = L.Conv2D(4, 3, activation="tanh")(L.MaxPooling2D()(h))
    model = keras.Model(inputs, L.Dense(3, "softmax")(L.Dense(5, "tanh")(L.Flatten()(h))))
    model.compile(loss="sparse_categorical_crossentropy")
    found = gradprop.probe(model, *data((8, 8, 3), 16))
    assert found.run.causes.empty
    assert "Theory does not speak" in found.report().html


def test_theory_follows_convolutions_of_one_size() -> None:
    inputs = keras.Input((8, 8, 3))
    h = inputs
    for _ in range(3):
        h = L.Conv2D(4, 3, padding="same", activation="relu")(h)
    model = keras.Model(inputs, L.Dense(3, "softmax")(L.Dense(5, "tanh")(L.Flatten()(h))))
    model.compile(loss="sparse_categorical_crossentropy")
    run = gradprop.probe(model, *data((8, 8, 3), 16)).run
    kernels = [v.numpy() for v in model.trainable_variables if v.name == "kernel"]
    # chi_1 of a rectifier is half of sigma_w2, the variance times the fan-in.
    expected = [np.mean(k.astype(float) ** 2) * 36 / 2 for k in kernels[1:3]]
    np.testing.assert_allclose(run.causes["chi_1"], expected, rtol=1e-5)


def test_a_comparison_says_what_differs(folders: dict[str, Path], tmp_path: Path) -> None:
    found = gradprop.compare(folders[ODD], folders["good"])
    assert found.sentence == "A has the diagnosis “vanishing”, and B “healthy”."
    assert "vanishing" in found.differences["A"] and found.differences["B"] == ()
    made = found.report(tmp_path / "both.html")
    seen = Seen(made.html)
    assert [bool(image["alt"]) for image in seen.images] == [True, True]
    assert len(seen.ids) == len(set(seen.ids))
    last = Run.read(folders["good"]).steps.sort_values("step")["minibatch_loss"].iloc[-1]
    assert "loss of B goes from" in str(seen.images[0]["alt"])
    assert f"to {last:.3g} at step 15" in str(seen.images[0]["alt"])
    assert "<b>" not in found._repr_html_()
    same = gradprop.compare(folders["good"], Run.read(folders["good"]))
    assert same.sentence == "Both runs have the diagnosis “healthy”."
    with pytest.raises(GradpropError, match="compare: int is not allowed"):
        gradprop.compare(folders["good"], 3)


@pytest.mark.browser
def test_both_pages_are_sound_and_have_no_barriers(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    page.report(Run.read(folders[ODD]), tmp_path / "one.html")
    both = gradprop.compare(folders[ODD], folders["good"])
    both.report(tmp_path / "both.html")
    inline = [Run.read(folders[ODD]).diagnosis, both, gradprop.advise("selu", 30, 32)]
    page_of = '<!doctype html><html lang="en"><title>a</title><main><h1>a</h1>{}</main>'
    (tmp_path / "notebook.html").write_text(
        page_of.format("".join(each._repr_html_() for each in inline)), encoding="utf-8"
    )
    assert check_report(tmp_path / "notebook.html") == []
    (tmp_path / "notebook.html").unlink()  # a notebook has its own colours and landmarks
    for path in sorted(tmp_path.glob("*.html")):
        assert check_report(path) == []
        assert check_accessibility(path) == []


def test_every_code_of_an_advice_runs_on_the_model() -> None:
    x, y = data(examples=32)
    faults: dict[str, tuple[str, ...]] = {
        "non-finite": ("", "inputs", "targets"),
        "wrong output": ("", "function", "layers", "loss", "targets"),
    }
    for activation in ("relu", "sigmoid", "mine"):
        unknown = activation == "mine"  # a function that is in no registry
        drawn = keras.initializers.RandomNormal(stddev=5.0)
        model = stacked("linear" if unknown else activation, drawn)
        run = gradprop.probe(model, x, y).run
        network = run.network.assign(activation="mine") if unknown else run.network
        codes = set()
        for kind in KINDS:
            for concerns in faults.get(kind, ("",)):
                layer = None if kind == "non-finite" and concerns else 1
                for step in (0, 1):
                    finding = Finding(kind, step, layer, -4.5, 1.0, "x", concerns=concerns)
                    given = advice([finding], run.layers, network, run.steps)
                    codes |= {remedy.code for remedy in given}
        assert len(codes) > 7
        for code in sorted(codes):
            names = {"keras": keras, "model": model, "x": x, "y": y.astype(float)}
            names["your_activation"] = keras.activations.linear
            exec(code, names)
            for line in code.splitlines():
                if line.startswith("keras.layers."):
                    eval(line, names)(np.ones((2, 7), np.float32))
            if "residual" in names:
                keep = L.Dense(7, kernel_initializer="zeros")
                assert np.array_equal(names["residual"](x, keep), x)
    (clip,) = (code for code in codes if "clipnorm" in code)
    model = stacked("relu", "he_normal")
    model.optimizer.learning_rate = 1e3
    before = [np.array(v.numpy()) for v in model.trainable_variables]
    exec(clip, {"model": model})
    model.fit(x, y, batch_size=32, verbose=0)
    after = [v.numpy() for v in model.trainable_variables]
    moved = [np.linalg.norm(b - a) for a, b in zip(before, after, strict=True)]
    assert 0 < max(moved) < 1e3 * (1 + 1e-5)
    run = gradprop.probe(model, x, y).run
    finding = Finding("unstable", 0, None, 1.0, 0.1, "x")
    (slower,) = advice([finding], run.layers, run.network, run.steps)
    assert "learning rate" in slower.change


def penalized(factor: float, code: str = "") -> keras.Model:
    """Return a network with penalties, or one of layers by a code."""
    keras.utils.set_random_seed(1)
    given = {"kernel_initializer": "he_normal", "kernel_regularizer": keras.regularizers.L2(factor)}
    hidden = [
        eval(code, {"keras": keras}) if code else L.Dense(16, "relu", **given) for _ in range(3)
    ]
    model = keras.Sequential([keras.Input((7,)), *hidden, L.Dense(3, "softmax")])
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model


def test_penalties_are_no_part_of_the_initial_loss_and_may_be_too_strong(tmp_path: Path) -> None:
    x, _ = data(examples=120)
    y = np.argmax(x[:, :3], axis=1)
    usual = gradprop.probe(penalized(0.05), x, y)
    assert usual.steps["minibatch_loss"].item() > 3 * math.log(3)
    assert usual.diagnose().kind == "healthy"
    kinds = []
    model = penalized(1.0)
    for name in ("strong", "mended"):
        monitor = gradprop.Monitor(tmp_path / name)
        model.fit(x, y, epochs=10, verbose=0, callbacks=[monitor])
        kinds.append(monitor.diagnose().kind)
        remedies = monitor.run.remedies
        if name == "strong":
            assert "factor of the penalty" in remedies[0].change
            model = penalized(1.0, remedies[0].code)
    assert kinds == ["penalty too strong", "healthy"]


def remembering(layer: Any, x: Any, y: Any, folder: Path) -> gradprop.Monitor:
    """Train a network to tell the sign of the first of 30 time steps; watch it."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((30, 1)), layer, L.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    monitor = gradprop.Monitor(folder)
    model.fit(x, y, batch_size=100, epochs=8, verbose=0, callbacks=[monitor])
    return monitor


def test_a_first_time_step_that_teaches_nothing_is_found_and_mended(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(1000, 30, 1)).astype("float32")
    y = (x[:, 0, 0] > 0).astype("float32")
    half = L.SimpleRNN(16, recurrent_initializer=keras.initializers.Orthogonal(0.4))
    lost = remembering(half, x, y, tmp_path / "lost")
    found = lost.diagnose()
    assert found.kind == "vanishing"
    assert "from time step to time step" in found.sentence
    assert "at the first time step than at the last" in str(found.groups[0])
    page = lost.report(tmp_path / "lost.html").html
    assert "Signal from time step to time step" in page
    (remedy, *_) = lost.run.remedies
    assert "singular value of 0.4 was measured" in remedy.effect
    advised = remembering(eval(remedy.code, {"keras": keras}), x, y, tmp_path / "kept")
    kept = advised.diagnose()
    assert kept.kind == "healthy", kept
    assert advised.steps["minibatch_loss"].iloc[-1] < 0.5 * lost.steps["minibatch_loss"].iloc[-1]


def test_two_steps_are_too_few_to_blame_the_first_time_step(tmp_path: Path) -> None:
    """Long sequences lose it in every LSTM, and most of them learn."""
    x = np.random.default_rng(0).normal(size=(64, 60, 1)).astype("float32")
    y = (x.sum((1, 2)) > 0).astype("float32")
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((60, 1)), L.LSTM(16), L.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    monitor = gradprop.Monitor(tmp_path / "run")
    model.fit(x, y, batch_size=32, verbose=0, callbacks=[monitor])
    assert monitor.layers["recurrent_signal_decades"].min() < -4
    assert monitor.diagnose().kind == "healthy"


def over_time(layer: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((20, 7)), layer, L.Dense(3, "softmax")])
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize(
    ("kind", "spread", "given"),
    [(L.SimpleRNN, 1.0, {}), (L.SimpleRNN, 0.6, {"activation": "relu"}), (L.GRU, 3.0, {})],
)
def test_recurrent_kernels_that_explode_get_advice_of_their_own(
    kind: Any, spread: float, given: dict[str, str]
) -> None:
    x, y = data((20, 7), 64)
    keras.utils.set_random_seed(1)
    drawn = keras.initializers.RandomNormal(stddev=spread)
    seen = gradprop.probe(over_time(kind(16, recurrent_initializer=drawn, **given)), x, y)
    found = seen.diagnose()
    assert found.kind == "exploding"
    assert "from time step to time step" in found.sentence
    assert "recurrent kernel" in str(found.groups[0]) or "one time step" in str(found.groups[0])
    codes = [remedy.code for remedy in seen.run.remedies if remedy.kind == "exploding"]
    assert "orthogonal" in codes[0] and any("clipnorm" in code for code in codes)
    assert any("LSTM(16)" in code for code in codes) == (kind is L.SimpleRNN)
    assert not any("Dense" in code for code in codes)
    for code in codes:
        if code.startswith("keras.layers.LSTM") or "orthogonal" in code:
            mended = gradprop.probe(over_time(eval(code, {"keras": keras})), x, y)
            assert mended.diagnose().kind == "healthy"
            assert not any("orthogonal" in remedy.code for remedy in mended.run.remedies)


def test_the_first_advice_mends_what_was_found() -> None:
    x, y = data(examples=64)
    shift, he = keras.initializers.Constant(-10.0), keras.initializers.HeNormal
    for given in ({"kernel_initializer": "zeros"}, {"bias_initializer": shift}):
        found = None
        model = keras.Sequential([keras.Input((7,))])
        for _ in range(LAYERS):
            model.add(L.Dense(16, "relu", **{"kernel_initializer": he()} | given))
        model.add(L.Dense(3, "softmax"))
        model.compile(loss="sparse_categorical_crossentropy")
        found = gradprop.probe(model, x, y)
        first = found.run.remedies[0]
        if "bias_initializer" in given:
            assert found.diagnose().kind == "dead" and "biases" in first.change
        else:
            (group,) = found.diagnose().groups
            assert f"(layers 1 to {LAYERS}, " in str(group)
            assert str(group).endswith("all weights are 0")
        layers = [eval(first.code, {"keras": keras}) for _ in range(LAYERS)]
        mended = keras.Sequential([keras.Input((7,)), *layers, L.Dense(3, "softmax")])
        mended.compile(loss="sparse_categorical_crossentropy")
        assert gradprop.probe(mended, x, y).diagnose().kind == "healthy"


def test_what_is_not_finite_in_the_data_is_said_to_be_so(tmp_path: Path) -> None:
    x, y = data(examples=64)
    bad = x.copy()
    bad[3, 2] = np.nan
    model = stacked("relu", "he_normal")
    seen = gradprop.probe(model, bad, y)
    assert "the inputs themselves hold NaN" in seen.diagnose().sentence
    assert "NaN or infinite first in the inputs themselves" in monitor.Probe.__repr__(seen)
    assert [r.change for r in seen.run.remedies] == [
        "Take what is NaN or infinite out of the inputs."
    ]
    numbers = keras.Sequential([keras.Input((7,)), L.Dense(8, "relu"), L.Dense(7)])
    numbers.compile("sgd", "mse")
    assert "the targets themselves" in gradprop.probe(numbers, x, bad).diagnose().sentence
    # In a minibatch that was looked at, and in one that was not.
    for first, kind in ((0, "bad data"), (3, "diverged")):
        keras.utils.set_random_seed(0)
        model = stacked("relu", "he_normal")
        batches = [(bad if step == first else x, y) for step in range(8)]
        found = gradprop.Monitor(tmp_path / str(first), schedule=lambda step: step in (0, 6))
        model.fit(
            (b for b in batches), steps_per_epoch=8, shuffle=False, verbose=0, callbacks=[found]
        )
        cell = found.cells.iloc[0]
        assert (cell["status"], cell["first_bad_step"]) == (kind, first)
        assert cell["first_bad_direction"] == ("unknown" if first else "inputs")
        expected = "began between step 0 and step 4" if first else "the inputs themselves"
        assert expected in found.diagnose().sentence
        assert ("0 to 4" if first else "are not finite") in Seen(found.report().html).text


def test_alarms_are_the_first_place_where_a_rule_of_thumb_broke() -> None:
    layers = pd.DataFrame(
        {
            "step": np.repeat([0, 5], 3),
            "layer": [2, 4, 6] * 2,
            "log10_update_ratio": [-3.0, -3.0, -3.0, -3.0, -1.0, -1.5],
            "activation_std": [1.0, 1.0, 1.0, 1.0, 0.01, 1.0],
            "dead_fraction": 0.0,
        }
    )
    steps = pd.DataFrame({"step": [0, 5], "train_loss": [9.0, 1.0]})
    network = pd.DataFrame(
        {"layer": [2, 4, 6], "name": list("abc"), "fan_in": 4, "fan_out": [4, 4, 3]}
    ).assign(activation=["relu", "somebody's", "softmax"])
    found = alarms(layers, steps, network).set_index("alarm")
    assert set(found.index) == {"large_updates", "variance_ratio", "initial_loss"}
    columns = ["step", "layer", "value", "layers", "probes"]
    assert list(found.loc["large_updates", columns]) == [5, 4, -1.0, 2, 1]
    assert list(found.loc["variance_ratio", columns]) == pytest.approx([5, 4, -4.0, 1, 1])
    assert found.at["initial_loss", "value"] == pytest.approx(9 / math.log(3))


def run(arguments: list[Any], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = cli.main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_the_shell_reports_and_compares(
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(["report", folders["good"]], capsys)
    assert (status, out) == (0, "healthy\ngood.html\n")
    both = [folders["good"], folders[ODD]]
    status, out, _ = run(["compare", *both, "-o", "both.html"], capsys)
    assert status == 0 and out.endswith("both.html\n")
    assert {path.name for path in tmp_path.iterdir()} == {"good.html", "both.html"}
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn" / "layers").mkdir(parents=True)
    (tmp_path / "torn" / "layers" / "1.parquet").write_text("no table")
    for arguments, problem in (
        (["report", "empty"], "empty: no run of a monitor: layers/ has no rows"),
        (["report", "torn"], "no table of a monitor"),
        (["report", "none"], "none: no such file or folder; allowed: the folder of a gradprop.M"),
        (["report", *both], "report: 2 paths, of which one is a folder"),
        (["report", "x.json", "-o", "y.html"], "--output is that of a monitor's run"),
        (["compare", "none", both[0]], "none: no such folder"),
        (["compare", "good.html", both[0]], "good.html: not a folder"),
    ):
        status, out, err = run(arguments, capsys)
        assert status == 1 and problem in err and err.count("\n") == 1


class Unregistered(L.Dense):
    """A layer that Keras cannot find when it loads a model."""

    def __init__(self, units: int = 3, **given: Any) -> None:
        super().__init__(units, **given)


def test_the_shell_probes_a_saved_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    x, y = data()
    model = stacked("sigmoid", "glorot_uniform")
    model.save("model.keras")
    np.savez("data.npz", x=x, y=y, wide=x[:, :3], short=y[:5], one=np.float32(1))
    np.save("single.npy", x)
    np.savez("objects.npz", x=np.array([{}]), y=y)
    status, out, _ = run(["probe", "model.keras", "data.npz", "-o", "seen.html"], capsys)
    expected = gradprop.probe(model, x[:64], y[:64]).diagnose()
    assert (status, out) == (0, f"{expected}\nseen.html\n")
    assert expected.kind == "vanishing"
    assert "vanishing" in Path("seen.html").read_text()
    keras.Sequential([keras.Input((7,)), L.Dense(3)]).save("plain.keras")
    own = keras.Sequential([keras.Input((7,)), Unregistered()])
    own.compile(loss="mse")
    for ending in ("keras", "h5"):
        own.save(f"own.{ending}")
    for arguments, problem in (
        (["model.keras", "none.npz"], "none.npz: no such file"),
        (["none.keras", "data.npz"], "none.keras: no such file"),
        (["data.npz", "data.npz"], "data.npz: no Keras model that can be loaded"),
        (["model.keras", "single.npy"], "single.npy: a single array"),
        (["model.keras", "objects.npz"], "objects.npz: no arrays of numpy.savez"),
        (["model.keras", "model.keras"], "--x: "),
        (["model.keras", "data.npz", "--y", "z"], "--y: 'z' is not allowed; allowed: x, y"),
        (["model.keras", "data.npz", "--y", "short"], "x has 120, short has 5 examples"),
        (["model.keras", "data.npz", "--y", "one"], "one is a single number"),
        (["model.keras", "data.npz", "--x", "wide"], "does not take these data"),
        (["model.keras", "data.npz", "--y", "x"], "does not take these data"),
        (["plain.keras", "data.npz"], "has no loss"),
        (["own.keras", "data.npz"], "'Unregistered' of the model is none of Keras"),
        (["own.h5", "data.npz"], "'Unregistered' of the model is none of Keras"),
    ):
        status, _, err = run(["probe", *arguments], capsys)
        assert status == 1 and problem in err and err.count("\n") == 1 and "\x1b" not in err


@pytest.mark.parametrize("hidden", [0, 1])
def test_a_shallow_network_has_a_page(hidden: int, tmp_path: Path) -> None:
    layers = [L.Dense(8, "relu") for _ in range(hidden)]
    model = keras.Sequential([keras.Input((7,)), *layers, L.Dense(3, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    written = gradprop.probe(model, *data(examples=32)).report(tmp_path / "page.html")
    assert "What was found" in written.html
