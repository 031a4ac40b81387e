"""Own components: what a file may define, what it may not, and whose ids it moves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from gradprop.components import datasets, initializers, own
from gradprop.components.activations import ACTIVATIONS, find_saturation
from gradprop.components.datasets import DATASETS, generate
from gradprop.components.initializers import INITIALIZERS, draw_kernel
from gradprop.components.optimizers import OPTIMIZERS, create_update
from gradprop.errors import ConfigError
from gradprop.grid import axes, loading, plan, schema
from gradprop.grid.config import validate
from gradprop.prediction.networks import weight_variance
from gradprop.spec import Cell, Component
from tests.reference import make_cell

Float32 = NDArray[np.float32]

HEAD = """
import math
import numpy as np
from gradprop.components import Layer, Parameter, activation, dataset, initializer, optimizer
"""
INITIALIZER = '''
def gain(layer):
    return math.sqrt(SCALE / layer.fan_in)

SCALE = 2.0

@initializer(
    parameters={"factor": Parameter(1.0, "Factor of all weights.", above=0)},
    variance=lambda layer, factor: factor**2 * 2.0 / layer.fan_in,
    definition="N(0, 2 factor^2 / n)",
    source="a test",
)
def halved(layer, rng, factor):
    """Draw normal weights."""
    # of half the rectified variance
    return factor * gain(layer) * rng.standard_normal((layer.fan_in, layer.fan_out))
'''
OTHER = """
@initializer()
def other(layer, rng):
    return rng.uniform(-0.1, 0.1, (layer.fan_in, layer.fan_out))
"""
MISH = """
@activation()
def own_mish(z):
    import keras

    return z * keras.ops.tanh(keras.ops.softplus(z))
"""
RAMP = """
@dataset(task="regression", fixed={"dimension": 2, "outputs": 1},
         parameters={"examples": Parameter(20, "Number of examples.", minimum=4, maximum=100)})
def ramp(examples, seed):
    x = np.random.default_rng(seed).standard_normal((examples, 2))
    return x, x[:, :1]
"""

RMS = """
@optimizer(
    parameters={"decay": Parameter(0.9, "Decay of the mean square.", minimum=0, below=1)},
    state=("square",),
)
def rms(weights, square, decay):
    import tensorflow as tf

    square = decay * square + (1 - decay) * tf.square(weights.gradient)
    return weights.rate * weights.gradient / (tf.sqrt(square) + 1e-7), square
"""
DECAYING = """
@optimizer()
def decaying(weights):
    '''w <- w - rate (g + w) / t.'''
    return weights.rate * (weights.gradient + weights.value) / weights.step
"""


class Files:
    """Files of own components, forgotten after the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[Path] = []

    def load(self, *parts: str, name: str = "one", head: str = HEAD) -> Path:
        """Write a study's components.py and load it."""
        path = self.folder / name / "components.py"
        path.parent.mkdir(exist_ok=True)
        self.written.append(path)
        path.write_text(head + "".join(parts), encoding="utf-8")
        own.load_file(path)
        return path

    def problem(self, *parts: str, name: str = "one") -> str:
        """Return the line that a file is refused with, after its path."""
        with pytest.raises(ConfigError) as caught:
            self.load(*parts, name=name)
        path, text = self.written[-1], str(caught.value)
        assert text.startswith(f"{path}:") and "\n" not in text
        return text.removeprefix(f"{path}:")


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    made = Files(tmp_path)
    yield made
    for path in made.written:
        own.forget(path)


def cells(**changes: Any) -> list[Cell]:
    """Return the cells of a block."""
    block = {
        "dataset": "circles",
        "depth": 1,
        "width": 4,
        "activation": "tanh",
        "initializer": "zeros",
        "learning_rate": 0.1,
        "batch_size": 8,
        "epochs": 1,
        "seeds": 1,
        **changes,
    }
    return list(axes.expand(block))


def of(kind: str, name: str) -> str:
    """Return the id of a cell that names a component."""
    return cells(**{kind: name})[0].id


# -------------------------------------------------------------------------- what it gives


def test_an_initializer_is_drawn_checked_and_predicted(files: Files) -> None:
    files.load(INITIALIZER)
    (cell,) = cells(initializer={"name": "halved", "factor": 3})
    kernel = draw_kernel(cell, 1, (400, 150))
    assert kernel.dtype == np.float32 and kernel.shape == (400, 150)
    # five standard errors of the variance of 60,000 normal entries
    assert kernel.var() == pytest.approx(9 * 2 / 400, rel=5 * math.sqrt(2 / kernel.size))
    assert weight_variance(cell.initializer, (400, 150), "tanh") == 9 * 2 / 400
    assert not np.array_equal(kernel, draw_kernel(cell, 2, (400, 150)))
    seed = initializers.kernel_seed(cell, 1)
    factor = 3.0 * math.sqrt(2.0 / 400)
    expected = factor * np.random.default_rng(seed).standard_normal((400, 150))
    np.testing.assert_array_equal(kernel, expected.astype(np.float32))


def test_many_kernels_are_those_drawn_one_by_one(files: Files) -> None:
    """Beyond the number from which TensorFlow draws those of the package."""
    files.load(INITIALIZER)
    some = cells(initializer="halved", seeds=initializers.WORTH_TRACING + 1)
    drawn = initializers.draw_kernels(some, [(3, 4)], np.zeros((1, 3), np.float32))[0]
    for replica, cell in enumerate(some):
        np.testing.assert_array_equal(drawn[replica], draw_kernel(cell, 1, (3, 4)))


def test_without_a_variance_theory_says_why(files: Files) -> None:
    files.load(OTHER)
    assert weight_variance(Component("other"), (3, 4), "tanh") is None
    assert INITIALIZERS["other"].unpredicted == "it states no variance"


def test_derivatives_of_an_activation_against_closed_forms(files: Files) -> None:
    """mish = z tanh(softplus z), with w = tanh, s = logistic (Misra 2020)."""
    files.load(MISH)
    z = np.linspace(-8, 8, 161)
    w, s = np.tanh(np.logaddexp(0, z)), special.expit(z)
    slope = (1 - w**2) * s  # of w
    bend = -2 * w * slope * s + (1 - w**2) * s * (1 - s)
    phi = ACTIVATIONS["own_mish"]
    np.testing.assert_allclose(phi.function(z), z * w, rtol=1e-12)
    np.testing.assert_allclose(phi.derivative(z), w + z * slope, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        phi.second_derivative(z), 2 * slope + z * bend, rtol=1e-9, atol=1e-12
    )
    assert phi.function(0.5).shape == () and phi.function(z).dtype == np.float64


def test_given_derivatives_are_taken(files: Files) -> None:
    files.load("""
def slope(z):
    return np.where(z > 0, 2.0, 0.0)

@activation(derivative=slope, saturation=(0.0, math.inf), homogeneous=True, kinks=(0.0,))
def twice_relu(z):
    import tensorflow as tf

    return 2 * tf.nn.relu(z)
""")
    phi = ACTIVATIONS["twice_relu"]
    assert phi.derivative([-1.0, 3.0]).tolist() == [0.0, 2.0]
    assert phi.second_derivative([-1.0, 3.0]).tolist() == [0.0, 0.0]
    assert phi.saturation == (0.0, math.inf) and phi.kinks == (0.0,) and phi.homogeneous


# The slope of the exponential has no maximum, and what it counts as saturated is relative to 0.
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "exponential"])
def test_saturation_is_found(name: str) -> None:
    phi = ACTIVATIONS[name]
    assert find_saturation(phi.derivative) == pytest.approx(phi.saturation, abs=0.021)


def test_a_data_set_is_made_split_and_standardized(files: Files) -> None:
    files.load(RAMP)
    component = DATASETS.create({"name": "ramp", "examples": 40, "seed": 3})
    made = generate(component)
    assert datasets.sizes(component) == (32, 8, 2, 0)
    assert made.x_train.shape == (32, 2) and made.y_test.shape == (8, 1)
    assert made.x_train.std() == pytest.approx(1, rel=1e-5)
    assert datasets.outputs(component) == made.outputs == 1


def test_a_data_set_has_a_split_of_its_own(files: Files) -> None:
    """The parameter came when own data sets were there, and is no part of their code."""
    files.load(RAMP)
    assert DATASETS["ramp"].code == "d7e98c71622c"
    made = [generate(DATASETS.create({"name": "ramp", "split_seed": seed})) for seed in (1, 2)]
    one, other = (np.concatenate([data.y_train, data.y_test]) for data in made)
    assert (one != other).any()
    np.testing.assert_allclose(np.ptp(one), np.ptp(other), rtol=1e-6)


def steps(optimizer: Any, start: Float32, gradients: Float32, rates: Float32) -> list[Float32]:
    """Return what an optimizer subtracts from a variable (replicas, rows, columns), step by step.

    The last is the variable after all steps.
    """
    import tensorflow as tf

    variable = tf.Variable(start)
    update = create_update(OPTIMIZERS.create(optimizer), [variable], rates)
    return [*(update([tf.constant(g)])[0].numpy() for g in gradients), variable.numpy()]


@pytest.fixture
def descent() -> tuple[Float32, Float32, Float32]:
    """Return a variable of three replicas, gradients of five steps, and learning rates."""
    rng = np.random.default_rng(0)
    start, *gradients = rng.standard_normal((6, 3, 4, 5)).astype(np.float32)
    return start, np.array(gradients), np.array([[[0.1]], [[0.2]], [[0.5]]], np.float32)


def test_steps_of_an_optimizer_with_a_state(files: Files, descent: Any) -> None:
    files.load(RMS)
    start, gradients, rates = descent
    found = steps({"name": "rms", "decay": 0.5}, *descent)
    w, square = start.astype(np.float64), np.zeros(start.shape)
    for g, change in zip(gradients.astype(np.float64), found, strict=False):
        square = 0.5 * square + 0.5 * g**2
        np.testing.assert_allclose(change, rates * g / (np.sqrt(square) + 1e-7), rtol=1e-6)
        w -= rates * g / (np.sqrt(square) + 1e-7)
    np.testing.assert_allclose(found[-1], w, atol=1e-5)
    assert OPTIMIZERS["rms"].state == ("square",)


def test_an_optimizer_sees_the_weights_and_the_number_of_the_step(
    files: Files, descent: Any
) -> None:
    files.load(DECAYING)
    start, gradients, rates = descent
    w = start.astype(np.float64)
    found = steps("decaying", *descent)
    for number, g in enumerate(gradients, start=1):
        w -= rates * (g + w) / number
    np.testing.assert_allclose(found[-1], w, atol=1e-5)
    assert OPTIMIZERS["decaying"].definition == "w <- w - rate (g + w) / t"


def test_the_plan_counts_what_an_optimizer_keeps(files: Files) -> None:
    files.load(RMS, DECAYING)
    for name, like in (("rms", "sgd"), ("decaying", "sgd"), ("adam", "sgd")):
        mine, plain = (
            plan.cell_work(plan.Program.of(cells(optimizer=n)[0]))["weight updated"]
            for n in (name, like)
        )
        assert mine == (1 + len(OPTIMIZERS[name].state)) * plain


def test_only_the_study_of_the_file_may_name_it(files: Files) -> None:
    one, two = files.load(INITIALIZER), files.load(OTHER, name="two")
    for path, name in ((one, "halved"), (two, "other")):
        names = schema.study_schema(components=path)["$defs"]["initializer_name"]["enum"]
        assert names == [*schema.study_schema()["$defs"]["initializer_name"]["enum"], name]
    content = {"title": "a", "question": "b", "grid": {"initializer": {"name": "halved"}}}
    validate(content, schema.study_schema(components=one), "s.yaml")
    content["grid"] = {"initializer": {"name": "halved", "factor": 0}}
    with pytest.raises(
        ConfigError, match=r"grid\.initializer\.factor: 0 is not allowed; allowed: more than 0$"
    ):
        validate(content, schema.study_schema(components=one), "s.yaml")
    assert [(c.kind, c.name) for c in own.registered(one)] == [("initializer", "halved")]


def test_an_unknown_name_tells_that_there_is_no_file(files: Files, tmp_path: Path) -> None:
    def problem(path: Path, content: dict[str, Any]) -> str:
        content = {"title": "a", "question": "b", "grid": {}, **content}
        with pytest.raises(ConfigError) as caught:
            validate(content, schema.study_schema(components=path), "s.yaml")
        return str(caught.value)

    missing, note = tmp_path / "none/components.py", " (the study has no components.py)"
    for key in ("initializer", "optimizer", "activation", "dataset"):
        assert problem(missing, {"grid": {key: "qqq"}}).endswith(note)
    assert problem(missing, {"grid": {"initializer": {"name": "qqq"}}}).endswith(note)
    assert problem(missing, {"statistics": ["qqq"]}).endswith(note)
    assert note not in problem(files.load(OTHER), {"grid": {"initializer": "qqq"}})
    assert note not in problem(missing, {"grid": {"loss": "qqq"}})


def test_a_study_is_built_with_its_own_components(files: Files) -> None:
    folder = files.load(INITIALIZER).parent
    own.forget(folder / "components.py")
    content = {
        "title": "a",
        "question": "b",
        "grid": {
            **{"dataset": "circles", "depth": 1, "width": 4, "activation": "tanh"},
            **{"initializer": "halved", "learning_rate": 0.1, "batch_size": 8, "epochs": 1},
        },
    }
    study = loading.build_study("one", content, 1, "one", folder)
    (registered,) = own.registered(folder / "components.py")
    assert study.cells[0].code == f"initializer={registered.code}"


# ------------------------------------------------------------------------ whose ids move


def test_no_other_id_moves(files: Files) -> None:
    before = [of("initializer", "zeros"), make_cell().id]
    files.load(INITIALIZER, MISH, RAMP, RMS)
    assert [of("initializer", "zeros"), make_cell().id] == before
    assert cells()[0].code == "" and "code" not in cells(initializer="halved")[0].columns()


@pytest.mark.parametrize(
    ("before", "after", "moves"),
    [
        ("    # of half the rectified variance\n", "", False),
        ('    """Draw normal weights."""\n', "", False),
        ("SCALE = 2.0", "SCALE = 2.0  # twice", False),
        ("N(0, 2 factor^2 / n)", "something else", False),
        ('"Factor of all weights."', '"A factor."', False),
        ("factor**2 * 2.0", "factor**2 * 2.5", False),  # theory's alone
        ("import math", "import math, cmath", False),
        ("SCALE = 2.0", "SCALE = 2.5", True),
        ("math.sqrt(SCALE", "math.exp(SCALE", True),
        ("factor * gain(layer)", "gain(layer)", True),
        ("Parameter(1.0,", "Parameter(2.0,", True),
        ("SCALE = 2.0", "SCALE = 2.0\nTABLE = [1]\nSCALE += 1", True),
    ],
)
def test_an_edit_moves_the_ids_of_its_cells_alone(
    before: str, after: str, moves: bool, files: Files
) -> None:
    text = HEAD + INITIALIZER + OTHER + MISH
    assert text.count(before) >= 1

    def ids(content: str) -> list[str]:
        files.load(content, head="")
        kinds = ("initializer", "other"), ("activation", "own_mish"), ("initializer", "halved")
        return [of(*kind) for kind in kinds]

    old, new = ids(text), ids(text.replace(before, after))
    assert new[:2] == old[:2]
    assert (new[2] != old[2]) == moves


@pytest.mark.parametrize(
    ("before", "after", "moves"),
    [
        ('"Decay of the mean square."', '"Decay."', False),
        ("tf.sqrt(square) + 1e-7", "tf.sqrt(square) + 1e-6", True),
        ("Parameter(0.9", "Parameter(0.8", True),
        ("square", "squares", True),
    ],
)
def test_an_edit_of_an_optimizer_moves_the_ids_of_its_cells_alone(
    before: str, after: str, moves: bool, files: Files
) -> None:
    def ids(content: str) -> list[str]:
        files.load(DECAYING, content)
        return [of("optimizer", name) for name in ("sgd", "decaying", "rms")]

    assert before in RMS
    old, new = ids(RMS), ids(RMS.replace(before, after))
    assert new[:2] == old[:2]
    assert (new[2] != old[2]) == moves
    assert cells(optimizer="rms")[0].code == f"optimizer={OPTIMIZERS['rms'].code}"


USES = """
TABLE = {}
TABLE["gain"] = 1.0

class Shape:
    scale = staticmethod(lambda n: TABLE["gain"] / n)

def aside(): return other

@initializer()
def tabled(layer, rng):
    TABLE_2 = Shape.scale(layer.fan_in)
    return np.full((layer.fan_in, layer.fan_out), TABLE_2)
"""


@pytest.mark.parametrize(
    ("before", "after", "moves"),
    [
        ('TABLE["gain"] = 1.0', 'TABLE["gain"] = 2.0', True),  # what is put into what is used
        ('TABLE["gain"] / n', 'TABLE["gain"] / n**2', True),  # in a class, in a lambda
        ("return other", "return None", False),  # of a function that is not used
        ("TABLE = {}", "TABLE = {}\nTABLE_2 = 3", False),  # the name of a local variable
    ],
)
def test_all_that_a_function_uses_is_its_code(
    before: str, after: str, moves: bool, files: Files
) -> None:
    files.load(USES)
    old = of("initializer", "tabled")
    assert USES.count(before) == 1
    files.load(USES.replace(before, after))
    assert (of("initializer", "tabled") != old) == moves


def test_functions_of_one_file_do_not_share_a_digest(files: Files) -> None:
    path = files.load(OTHER, OTHER.replace("other", "another"))
    one, two = own.registered(path)
    assert one.code != two.code


def test_the_code_may_differ_between_the_replicas_of_a_stack(files: Files) -> None:
    from gradprop.grid.sharding import shard_digest, shards, stacks

    def digest() -> str:
        some = cells(initializer=["zeros", "other", "halved"])
        assert len(stacks(some)) == 1
        (shard,) = shards(some).values()
        return shard_digest(shard)

    files.load(INITIALIZER, OTHER)
    before = digest()
    files.load(INITIALIZER, OTHER.replace("0.1", "0.2"))
    assert digest() != before


# -------------------------------------------------------------------------- what is refused


def test_a_name_of_the_package_is_taken(files: Files) -> None:
    line = files.problem(OTHER.replace("other", "he_normal"))
    assert line.startswith("6: initializer 'he_normal': the package has one of this name (")
    assert line.endswith("initializers.py)")


def test_a_name_has_one_code(files: Files) -> None:
    one = files.load(OTHER)
    two = files.load(f"# The same.\n{OTHER}", name="two")
    assert own.registered(one) == own.registered(two)
    own.forget(one)
    assert "other" in INITIALIZERS
    line = files.problem(OTHER.replace("0.1", "0.2"), name="three")
    assert line == f"6: initializer 'other': {two.resolve()} defines another one of this name"
    own.forget(two)
    assert "other" not in INITIALIZERS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(:\n", "6: SyntaxError: invalid syntax"),
        (
            "import nosuch_module\n",
            "6: ModuleNotFoundError: No module named 'nosuch_module'; components.py imports from "
            "installed packages only",
        ),
        (
            "from . import helper\n",
            "6: ImportError: attempted relative import with no known parent package; components.py "
            "imports from installed packages only",
        ),
        ("1 / 0\n", "6: ZeroDivisionError: division by zero"),
        ("def f():\n    1 / 0\nf()\n", "7: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", "6: SystemExit: 3"),
        (
            "@initializer\ndef f(layer, rng): ...\n",
            "6: initializer 'f': write @initializer()",
        ),
        (
            "from gradprop.probes import statistic\n@statistic\ndef f(layer): ...\n",
            "7: statistic 'f': write @statistic()",
        ),
        (
            "@optimizer(state=('m',))\ndef f(w: float) -> float: ...\n",
            "6: optimizer 'f': takes (w); it must take (weights, m)",
        ),
        (
            "from gradprop.probes import statistic\n@statistic()\ndef f(layer, power): ...\n",
            "7: statistic 'f': takes (layer, power); it must take (layer)",
        ),
        (
            "@activation()\ndef f(z, slope): ...\n",
            "6: activation 'f': takes (z, slope); it must take (z)",
        ),
        (
            "@initializer(parameters={'layer': Parameter(1, '')})\ndef f(layer, rng): ...\n",
            "6: initializer 'f': takes (layer, rng); it must take (layer, rng, layer)",
        ),
        (
            "@initializer(variance=lambda n: 1.0, parameters={'a': Parameter(1, '')})\n"
            "def f(layer, rng, *, a=2): ...\n",
            "6: initializer 'f': variance takes (n); it must take (layer, a)",
        ),
        (
            "@dataset(task='regression', fixed={'examples': 9, 'dimension': 1, 'outputs': 1},\n"
            "         parameters={'noise': Parameter(0.1, '')})\ndef f(noise): ...\n",
            "6: dataset 'f': takes (noise); it must take (noise, seed)",
        ),
        ("@initializer()\ndef F(layer, rng): ...\n", "6: initializer 'F': allowed: lower-case"),
        ("@initializer()\nclass f: ...\n", "6: TypeError: initializer is the decorator of a func"),
        ("initializer()(math.sqrt)\n", "6: TypeError: initializer is the decorator of a function"),
        (
            "def f(layer, rng): ...\ninitializer()(f)\n",
            "6: initializer 'f': not a decorated function at the top level of its file",
        ),
        (
            "@dataset(task='regression')\ndef f(seed): ...\n",
            "6: dataset 'f': neither a parameter nor fixed: examples, dimension, outputs",
        ),
        (
            "@optimizer(state=('m'))\ndef f(weights, m): ...\n",
            "6: optimizer 'f': state is 'm'; allowed: a tuple of names",
        ),
        (
            "@optimizer(state=('m',), parameters={'m': Parameter(1, '')})\ndef f(w, m): ...\n",
            "6: optimizer 'f': both a parameter and kept: m",
        ),
        (
            "@dataset(task='regresion')\ndef f(seed): ...\n",
            "6: dataset 'f': 'regresion' is not allowed; allowed: classification, regression",
        ),
    ],
)
def test_mistakes_in_a_file(text: str, expected: str, files: Files) -> None:
    before = list(INITIALIZERS)
    assert files.problem(OTHER.strip() + "\n", "\n" + text, name="two").count(":") >= 1
    assert files.problem("\n" + text).startswith(expected)
    assert list(INITIALIZERS) == before  # nothing of it is entered


def test_a_syntax_error_tells_its_place_once(files: Files) -> None:
    assert files.problem("\nf(1\n") == "6: SyntaxError: '(' was never closed"


@pytest.mark.parametrize(
    ("name", "parameter", "expected"),
    [
        (
            "decay",
            "Parameter(1.9, '', minimum=0, below=1)",
            "the default 1.9 is not allowed; allowed: less than 1",
        ),
        ("decay", "Parameter(1, '', below=1)", "the default 1 is not allowed; allowed: less than"),
        ("decay", "Parameter(0.0, '', above=0)", "the default 0.0 is not allowed; allowed: more"),
        ("decay", "Parameter(-1, '', minimum=0)", "the default -1 is not allowed; allowed: at le"),
        ("decay", "Parameter(9, '', maximum=8)", "the default 9 is not allowed; allowed: at most"),
        ("decay", "Parameter(math.nan, '')", "the default nan is neither text nor a finite numbe"),
        ("decay", "Parameter(None, '')", "the default nothing is neither text nor a finite numbe"),
        ("mode", "Parameter('a', '', choices=('b',))", "the default 'a' is not allowed by its ow"),
        ("mode", "Parameter('a', '', pattern='^b$')", "the default 'a' is not allowed by its own"),
        ("mode", "Parameter('aa', '', longest=1)", "the default 'aa' is not allowed by its own r"),
        ("decay", "0.9", "0.9 is no Parameter"),
        ("name", "Parameter(1, '')", "choose another name; in YAML, `name` is that of the compon"),
        ("my-decay", "Parameter(1, '')", "the name is no name of an argument in Python"),
        ("lambda", "Parameter(1, '')", "the name is no name of an argument in Python"),
    ],
)
def test_mistakes_in_a_parameter(name: str, parameter: str, expected: str, files: Files) -> None:
    mark = f"@optimizer(parameters={{{name!r}: {parameter}}})"
    line = files.problem(f"\n{mark}\ndef f(weights, **given): ...\n")
    assert line.startswith(f"6: optimizer 'f': parameter {name!r}: {expected}")


def test_the_defaults_of_the_package_are_within_their_bounds() -> None:
    for registry in own.REGISTRIES.values():
        for name, entry in registry.items():
            assert {known.problem for known in entry.parameters.values()} <= {""}, name


def test_a_parameter_may_have_the_name_of_anything_inside(files: Files, descent: Any) -> None:
    names = {"rates": 1.0, "variables": 1.0, "gradients": 1.0}
    given = ", ".join(f"{name!r}: Parameter({value}, '')" for name, value in names.items())
    files.load(
        f"@optimizer(parameters={{{given}}})\n"
        "def plain(weights, rates, variables, gradients):\n"
        "    return weights.rate * weights.gradient * rates\n"
        "@initializer(parameters={'seed': Parameter(3.0, '')})\n"
        "def seeded(layer, rng, seed):\n"
        "    return np.full((layer.fan_in, layer.fan_out), seed)\n"
    )
    _, gradients, rates = descent
    np.testing.assert_array_equal(steps("plain", *descent)[0], gradients[0] * rates)
    assert (draw_kernel(cells(initializer="seeded")[0], 1, (2, 3)) == 3).all()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("rng.nosuch()", "8: AttributeError: 'numpy.random._generator.Generator' object has no"),
        (
            "np.zeros((3, 5))",
            "6: initializer 'bad': the kernel has the shape (3, 5), not",
        ),
        ("np.full((3, 4), np.nan)", "6: initializer 'bad': the kernel has NaN or infinite entries"),
        ("'text'", "6: initializer 'bad': the kernel is not an array of numbers"),
        ("None", "6: initializer 'bad': the kernel is None: the function returns nothing"),
        ("exit()", "8: SystemExit: None"),
        ("np.random.normal(size=(3, 4))", "6: initializer 'bad': gives another kernel when called"),
        ("np.full((3, 4), next(COUNTER))", "6: initializer 'bad': gives another kernel when"),
    ],
)
def test_mistakes_in_a_kernel(body: str, expected: str, files: Files) -> None:
    path = files.load(
        f"\n@initializer()\ndef bad(layer, rng):\n    return {body}\nCOUNTER = iter(range(9))\n"
    )
    with pytest.raises(ConfigError) as caught:
        draw_kernel(cells(initializer="bad")[0], 1, (3, 4))
    assert str(caught.value).startswith(f"{path}:{expected}")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "z[:, :1]",
            "6: activation 'bad_one': the result has the shape (3, 1), not that of z, (3, 4)",
        ),
        ("None", "6: activation 'bad_one': the result is nothing, not a tensor"),
        ("z + nosuch", "8: NameError: name 'nosuch' is not defined"),
    ],
)
def test_mistakes_in_an_activation(body: str, expected: str, files: Files) -> None:
    path = files.load(f"\n@activation()\ndef bad_one(z):\n    return {body}\n")
    with pytest.raises(ConfigError) as caught:
        ACTIVATIONS["bad_one"].function(np.ones((3, 4)))
    assert str(caught.value).startswith(f"{path}:{expected}")


@pytest.mark.parametrize("is_traced", [False, True])
@pytest.mark.parametrize("body", ["z if z > 0 else 0 * z", "max(z, 0 * z)"])
def test_a_condition_on_a_tensor_is_told_alike_traced_or_not(
    body: str, is_traced: bool, files: Files
) -> None:
    import tensorflow as tf

    path = files.load(f"\n@activation()\ndef bad_one(z):\n    return {body}\n")
    call = ACTIVATIONS["bad_one"].tensors
    assert call is not None
    with pytest.raises(ConfigError) as caught:
        (tf.function(call, autograph=False) if is_traced else call)(tf.ones((3, 4)))
    assert str(caught.value).startswith(f"{path}:8: a tensor has a truth value for every entry")
    assert str(caught.value).endswith("use tf.where")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("weights.gradient", "6: optimizer 'bad': returned 1 instead of 2 tensors; needed"),
        ("None", "6: optimizer 'bad': returned None; needed are: the change, m"),
        (
            "weights.gradient[:, :1], m",
            "6: optimizer 'bad': the change has the shape (3, 1, 5), not that of the variable, "
            "(3, 4, 5)",
        ),
        (
            "np.float32(1), m",
            "6: optimizer 'bad': the change has the shape (), not that of the variable, (3, 4, 5)",
        ),
        ("weights.gradient, np.ones((3, 4, 5))", "6: optimizer 'bad': m has the type float64, not"),
        ("weights.gradient, 1.0", "6: optimizer 'bad': m is 1.0, not a tensor"),
        ("(m if m > 0 else -m), m", "8: a tensor has a truth value for every entry, and Python's"),
        ("weights.grad, m", "8: AttributeError: 'Weights' object has no attribute 'grad'"),
    ],
)
def test_mistakes_in_an_optimizer(body: str, expected: str, files: Files, descent: Any) -> None:
    mark = "@optimizer(state=('m',))"
    path = files.load(f"\n{mark}\ndef bad(weights, m):\n    return {body}\n")
    with pytest.raises(ConfigError) as caught:
        steps("bad", *descent)
    assert str(caught.value).startswith(f"{path}:{expected}")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("np.ones(3)", "returned something else than inputs and targets"),
        ("np.ones((20, 3)), np.zeros(20)", "x has the shape (20, 3), not (20, 2)"),
        ("np.ones((20, 2)), np.zeros((20, 1))", "y has the shape (20, 1), not (20,)"),
        ("np.ones((20, 2)), np.arange(20)", "y has other labels than 0 to 1"),
        ("np.ones((20, 2)), np.zeros(20)", "y has a class of fewer than 2 examples"),
        ("np.full((20, 2), np.inf), np.arange(20) % 2", "x has NaN or infinite entries"),
    ],
)
def test_mistakes_in_a_data_set(body: str, expected: str, files: Files) -> None:
    fixed = '{"examples": 20, "dimension": 2, "classes": 2}'
    mark = f'@dataset(task="classification", fixed={fixed})'
    path = files.load(f"\n{mark}\ndef bad(seed):\n    return {body}\n")
    with pytest.raises(ConfigError) as caught:
        generate(Component("bad"))
    assert str(caught.value).startswith(f"{path}:6: dataset 'bad': {expected}")


def test_an_edited_data_set_replaces_its_file(files: Files, tmp_path: Path) -> None:
    """Where one of the package would be an error: results that exist have other ids."""
    from gradprop.results import products

    files.load(RAMP)
    written = datasets.write(Component("ramp"), tmp_path / "ramp.npz")
    manifest = products.dataset(tmp_path, Component("ramp"))
    files.load(RAMP.replace("x[:, :1]", "x[:, 1:]"))
    changed = datasets.write(Component("ramp"), tmp_path / "ramp.npz")
    assert changed.checksum != written.checksum
    assert datasets.read(tmp_path / "ramp.npz").checksum == changed.checksum
    assert products.dataset(tmp_path, Component("ramp")) != manifest


def test_installed_packages_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Files
) -> None:
    (tmp_path / "more.dist-info").mkdir()
    (tmp_path / "more.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: more\n")
    entry = "[gradprop.components]\nmore = more_components\n"
    (tmp_path / "more.dist-info/entry_points.txt").write_text(entry)
    (tmp_path / "more_components.py").write_text(HEAD + OTHER.replace("other", "installed"))
    monkeypatch.syspath_prepend(tmp_path)
    own.load_installed.__wrapped__()
    try:
        assert "installed" in schema.study_schema()["$defs"]["initializer_name"]["enum"]
        assert (
            "installed"
            in schema.study_schema(components=files.load(OTHER))["$defs"]["initializer_name"][
                "enum"
            ]
        )
    finally:
        del INITIALIZERS.owners["installed"], INITIALIZERS["installed"]
    (tmp_path / "more_components.py").write_text("1 / 0\n")
    monkeypatch.delitem(__import__("sys").modules, "more_components")
    with pytest.raises(ConfigError, match="entry point more = more_components: ZeroDivisionError"):
        own.load_installed.__wrapped__()


@pytest.mark.parametrize("name", ["seed", "test_fraction"])
def test_a_data_set_has_no_second_parameter_of_the_name(name: str, files: Files) -> None:
    sizes = "'examples': Parameter(40, ''), 'dimension': Parameter(2, '')"
    mark = f"@dataset(task='classification', fixed={{'classes': 2}}, parameters={{{sizes}, "
    line = files.problem(f"{mark}{name!r}: Parameter(1, '')}})\ndef mine(**given): ...\n")
    assert f"parameter {name!r}: choose another name; every component" in line
