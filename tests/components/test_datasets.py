"""Data sets: what the generators make, and that no file changes in silence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from gradprop import spec
from gradprop.components import datasets
from gradprop.components.datasets import (
    DATASETS,
    ChangedDataError,
    Dataset,
    generate,
    read,
    write,
)
from gradprop.errors import GradpropError

# Those that need no file of a study (`test_datafiles.py`).
GENERATED = [name for name in DATASETS if name != "file"]
# Parameters of the data sets below that are not their default, besides 100 examples.
CHOSEN: dict[str, dict[str, Any]] = {
    "spirals": {"classes": 4},
    "linear_teacher": {"dimension": 6, "outputs": 3},
    "whitened_teacher": {"dimension": 6, "outputs": 4, "strengths": "3 1 0.5"},
    "sphere": {"dimension": 6},
    "great_circle": {"dimension": 6},
    "equicorrelated": {"examples": 20, "dimension": 30},
}
# Values that `other_value` does not find: a text, and a symmetric map's outputs.
FITTING: dict[str, dict[str, Any]] = {"whitened_teacher": {"strengths": "2 1", "outputs": 7}}
SPLIT_SEED = 2  # of a split that neither `small` nor `others` has


# Data sets whose features have unlike scales, and those that are standardized.
TABLES = [name for name in GENERATED if DATASETS[name].tabular]
SCALED = [name for name in GENERATED if not DATASETS[name].exact]


def small(name: str) -> dict[str, Any]:
    """Return a small data set as a study's YAML would have it."""
    examples = {"examples": 100} if "examples" in DATASETS[name].parameters else {}
    return {"name": name, **examples, **CHOSEN.get(name, {})}


def other_value(value: Any) -> Any:
    """Return a value that a parameter may have as well."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value / 2 or 0.1


def others(name: str) -> dict[str, Any]:
    """Return for every parameter a value that is neither its default nor that of `small`."""
    values = {**DATASETS[name].defaults, **small(name)}
    fitting = {"split_seed": SPLIT_SEED, **FITTING.get(name, {})}
    return {
        key: fitting[key] if key in fitting else other_value(values[key])
        for key in DATASETS[name].parameters
    }


SMALL = {name: small(name) for name in GENERATED}
OTHER = {name: others(name) for name in GENERATED}
EVERY = pytest.mark.parametrize("name", GENERATED)


def make(name: str, **parameters: Any) -> Dataset:
    return generate(DATASETS.create({**SMALL[name], **parameters}))


def raw(**parameters: Any) -> datasets.Arrays:
    """Return what a generator makes before split and standardization."""
    entry = DATASETS[parameters.pop("name")]
    return entry.make(**{**entry.defaults, **parameters})


@EVERY
def test_shapes_and_types(name: str) -> None:
    known = {**DATASETS[name].fixed, **DATASETS[name].defaults, **SMALL[name]}
    examples, features = known["examples"], known["dimension"]
    # Targets that are the inputs have no number of their own.
    outputs = known.get("classes") or known.get("outputs", features)
    dataset = make(name)
    test_examples = round(0.2 * examples + 0.4999)
    assert dataset.x_train.shape == (examples - test_examples, features)
    assert dataset.x_test.shape == (test_examples, features)
    assert dataset.x_train.dtype == dataset.x_test.dtype == np.float32
    assert dataset.task == DATASETS[name].task
    assert dataset.outputs == outputs
    shape, kind = ((), np.int32) if dataset.task == "classification" else ((outputs,), np.float32)
    for x, y in ((dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test)):
        assert y.shape == (len(x), *shape)
        assert y.dtype == kind
        assert np.isfinite(x).all()


def test_there_are_1797_digits() -> None:
    digits = make("digits")
    assert (len(digits.x_train) + len(digits.x_test), *digits.x_test.shape[1:]) == (1797, 64)
    assert digits.outputs == 10


@EVERY
def test_generators_are_deterministic(name: str) -> None:
    first, second = make(name), make(name)
    assert first.checksum == second.checksum
    for f in fields(Dataset):
        np.testing.assert_array_equal(getattr(first, f.name), getattr(second, f.name))


@EVERY
def test_checksum_sees_a_single_bit(name: str) -> None:
    dataset = make(name)
    arrays = {key: getattr(dataset, key).copy() for key in ("x_train", "y_train")}
    before = datasets._checksum(arrays)
    arrays["x_train"].view(np.uint32)[-1, -1] ^= 1
    assert datasets._checksum(arrays) != before


@EVERY
def test_every_parameter_has_an_effect(name: str) -> None:
    known = {make(name).checksum}
    for key, value in OTHER[name].items():
        needed = {"outputs": 6} if key == "symmetric" else {}  # as many as features
        known.add(make(name, **needed).checksum)
        checksum = make(name, **{key: value}, **needed).checksum
        assert checksum not in known, key
        known.add(checksum)


@pytest.mark.parametrize("name", SCALED)
def test_inputs_are_centred_and_have_one_scale(name: str) -> None:
    x = make(name).x_train.astype(np.float64)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-6)
    assert np.mean(x**2) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", SCALED)
def test_what_is_not_standardized_is_as_it_was_made(name: str) -> None:
    """Inputs and targets: the same rows, in the order of the split."""
    x, y = raw(**SMALL[name])
    classes = DATASETS[name].task == "classification"
    parts = train_test_split(x, y, test_size=0.2, random_state=0, stratify=y if classes else None)
    dataset = make(name, standardize=False)
    found = (dataset.x_train, dataset.x_test, dataset.y_train, dataset.y_test)
    for part, expected in zip(found, parts, strict=True):
        np.testing.assert_array_equal(part, expected.astype(part.dtype))


def test_a_constant_feature_of_a_table_is_only_centred(monkeypatch: pytest.MonkeyPatch) -> None:
    """A constant that has rounding errors in its mean."""
    x, y = raw(name="iris")
    x = np.column_stack([x, np.full(len(x), 0.1)])
    monkeypatch.setitem(DATASETS, "iris", replace(DATASETS["iris"], make=lambda **_: (x, y)))
    made = make("iris")
    assert (made.x_train[:, -1] == 0).all() and (made.x_test[:, -1] == 0).all()
    np.testing.assert_allclose(made.x_train[:, :-1].std(axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_those_of_scikit_learn(name: str) -> None:
    """Each feature of its own scale, and each target: as scikit-learn's own scaler has it."""
    options = {"scaled": False} if name == "diabetes" else {}
    x, y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True, **options)
    classes = DATASETS[name].task == "classification"
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=0.2, random_state=3, stratify=y if classes else None
    )
    dataset = make(name, split_seed=3)
    scaler = StandardScaler().fit(x_train)
    np.testing.assert_allclose(dataset.x_train, scaler.transform(x_train), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dataset.x_test, scaler.transform(x_test), rtol=1e-5, atol=1e-6)
    if not classes:
        scaler = StandardScaler().fit(y_train[:, None])
        y_train, y_test = (scaler.transform(part[:, None]) for part in (y_train, y_test))
    np.testing.assert_allclose(dataset.y_train, y_train, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dataset.y_test, y_test, rtol=1e-5, atol=1e-6)


def test_the_test_set_is_standardized_as_the_training_set() -> None:
    """Undo the standardization with the training set alone: pixels are whole numbers."""
    digits = make("digits")
    lowest = digits.x_train.min(axis=0)
    step = (digits.x_train.max(axis=0) - lowest).max() / 16
    pixels = (digits.x_test - lowest) / step
    np.testing.assert_allclose(pixels, np.round(pixels), atol=1e-3)
    assert set(np.round(pixels).ravel()) == set(range(17))


def test_constant_pixels_stay_finite() -> None:
    images, _ = raw(name="digits")
    constant = np.ptp(images, axis=0) == 0
    assert constant.sum() == 3
    digits = make("digits")
    assert (digits.x_train[:, constant] == 0).all()
    assert (digits.x_test[:, constant] == 0).all()


@pytest.mark.parametrize("name", [n for n in GENERATED if DATASETS[n].task == "classification"])
def test_the_split_is_stratified(name: str) -> None:
    dataset = make(name)
    train, test = np.bincount(dataset.y_train), np.bincount(dataset.y_test)
    assert len(train) == len(test) == dataset.outputs
    assert (np.abs(test - 0.2 * (train + test)) <= 1).all()


@pytest.mark.parametrize("name", [n for n in GENERATED if "seed" in DATASETS[n].parameters])
def test_the_split_has_a_seed_of_its_own(name: str) -> None:
    """The same examples, split as scikit-learn does with that seed; by default with `seed`."""
    if DATASETS[name].exact:
        assert "split_seed" not in DATASETS[name].parameters
        return
    x, y = raw(**{**SMALL[name], "seed": 5})
    classes = DATASETS[name].task == "classification"
    for given, expected in (({}, 5), ({"split_seed": 0}, 0), ({"split_seed": 7}, 7)):
        x_train, x_test, y_train, y_test = train_test_split(
            x, y, test_size=0.2, random_state=expected, stratify=y if classes else None
        )
        mean = x_train.mean(axis=0)
        dataset = make(name, seed=5, **given)
        scaled = ((x_test - mean) / (x_train - mean).std()).astype(np.float32)
        np.testing.assert_array_equal(dataset.x_test, scaled)
        if classes:
            np.testing.assert_array_equal(dataset.y_train, y_train)
            np.testing.assert_array_equal(dataset.y_test, y_test)


def test_the_seed_of_the_split_moves_no_id() -> None:
    label = DATASETS.create({"name": "digits", "split_seed": datasets.AS_SEED}).label
    assert label == "digits"


def test_gaussian_mixture() -> None:
    parameters = {"name": "gaussian_mixture", "examples": 20_000, "classes": 5, "dimension": 30}
    x, labels = raw(**parameters, separation=3.0, noise=0.5)
    centres = np.stack([x[labels == label].mean(axis=0) for label in range(5)])
    assert centres.std() == pytest.approx(3.0, rel=0.2)
    assert (x - centres[labels]).std() == pytest.approx(0.5, rel=0.01)
    x, labels = raw(**parameters, separation=3.0, noise=0.0)
    assert (x == x[labels]).all()  # the first examples have labels 0, 1, 2 …


def test_circles() -> None:
    x, labels = raw(name="circles", factor=0.4, noise=0.0)
    np.testing.assert_allclose(np.hypot(*x.T), np.where(labels == 1, 0.4, 1.0))


def test_spirals() -> None:
    x, labels = raw(name="spirals", classes=3, turns=0.5, noise=0.0)
    radius = np.hypot(*x.T)
    angle = np.arctan2(x[:, 1], x[:, 0]) - 2 * np.pi * (0.5 * radius + labels / 3)
    np.testing.assert_allclose(np.exp(1j * angle), 1, atol=1e-12)
    assert radius.min() >= 0.1
    assert radius.max() <= 1


def test_linear_teacher_is_linear_without_a_bias() -> None:
    dataset = make("linear_teacher")
    np.testing.assert_allclose(dataset.y_train.mean(axis=0), 0, atol=1e-6)
    solution, *_ = np.linalg.lstsq(dataset.x_train, dataset.y_train, rcond=None)
    np.testing.assert_allclose(dataset.x_test @ solution, dataset.y_test, atol=1e-5)


def test_linear_teacher_noise() -> None:
    parameters = {"name": "linear_teacher", "examples": 4000, "dimension": 6, "outputs": 3}
    x, y = raw(**parameters, noise=0.3)
    solution, *_ = np.linalg.lstsq(x, y, rcond=None)
    assert (y - x @ solution).std() == pytest.approx(0.3, rel=0.03)


# ------------------------------------------------------------------------------------- files


@EVERY
def test_written_and_read_again(name: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "data.npz"
    written = write(DATASETS.create(SMALL[name]), path)
    found = read(path)
    for f in fields(Dataset):
        np.testing.assert_array_equal(getattr(found, f.name), getattr(written, f.name))
    assert found.y_train.dtype == written.y_train.dtype
    assert [p.name for p in path.parent.iterdir()] == ["data.npz"]


def test_writing_again_changes_no_byte(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    write(DATASETS.create(SMALL["circles"]), path)
    before = path.read_bytes()
    write(DATASETS.create(SMALL["circles"]), path)
    assert path.read_bytes() == before


def test_a_wrong_checksum_is_loud(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    write(DATASETS.create(SMALL["circles"]), path)
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays["x_test"][0, 0] += 1
    np.savez(path, **arrays)
    with pytest.raises(ChangedDataError, match=r"data\.npz: damaged or edited; delete it"):
        read(path)


@pytest.fixture
def changed_circles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write circles, then let their generator make other arrays; return the file."""
    path = tmp_path / "circles.npz"
    write(DATASETS.create("circles"), path)
    entry = DATASETS["circles"]

    def make(**parameters: Any) -> datasets.Arrays:
        x, y = entry.make(**parameters)
        return 1.5 * x**3, y

    monkeypatch.setitem(DATASETS, "circles", replace(entry, make=make))
    return path


def test_a_changed_generator_is_loud(changed_circles: Path) -> None:
    before = changed_circles.read_bytes()
    with pytest.raises(ChangedDataError, match=r"'circles' makes other arrays .* NUMERICS"):
        write(DATASETS.create("circles"), changed_circles)
    assert changed_circles.read_bytes() == before


def test_a_change_that_is_meant(changed_circles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(changed_circles).checksum
    monkeypatch.setattr(datasets, "NUMERICS", spec.NUMERICS + 1)
    assert write(DATASETS.create("circles"), changed_circles).checksum != before
    assert read(changed_circles).checksum != before


def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data.npz"
    write(DATASETS.create(SMALL["circles"]), path)
    before = path.read_bytes()

    def interrupted(stream: Any, **arrays: Any) -> None:
        stream.write(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(DATASETS.create(SMALL["circles"]), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["data.npz"]


# ------------------------------------------------------------------------ exact geometries


def test_circles_of_the_assignment() -> None:
    """300 examples to train on and 100 to test, on circles of radius 1 and 0.8."""
    dataset = make("circles", examples=400, test_fraction=0.25, standardize=False, noise=0.0)
    assert (len(dataset.x_train), len(dataset.x_test)) == (300, 100)
    radii = np.linalg.norm(dataset.x_train, axis=1)
    np.testing.assert_allclose(radii, np.where(dataset.y_train == 0, 1, 0.8), atol=1e-6)


def test_a_symmetric_teacher_has_the_strengths_as_eigenvalues() -> None:
    options = {"dimension": 5, "outputs": 5, "strengths": "3 2 1", "symmetric": True}
    dataset = datasets.generate(datasets.DATASETS.create({"name": "whitened_teacher", **options}))
    x, y = (part.astype(np.float64) for part in (dataset.x_train, dataset.y_train))
    teacher = y.T @ x / len(x)
    np.testing.assert_allclose(teacher, teacher.T, atol=1e-6)
    np.testing.assert_allclose(np.linalg.eigvalsh(teacher), [0, 0, 1, 2, 3], atol=1e-5)
    wrong = datasets.DATASETS.create({"name": "whitened_teacher", **options, "outputs": 4})
    with pytest.raises(GradpropError, match="as many outputs as dimensions"):
        datasets.generate(wrong)


def test_a_whitened_teacher_has_the_given_modes() -> None:
    dataset = make("whitened_teacher")
    x, y = dataset.x_train.astype(np.float64), dataset.y_train.astype(np.float64)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-7)
    np.testing.assert_allclose(x.T @ x / len(x), np.eye(6), atol=1e-6)
    strengths = np.linalg.svd(y.T @ x / len(x), compute_uv=False)
    np.testing.assert_allclose(strengths, [3, 1, 0.5, 0], atol=1e-6)
    teacher = np.linalg.lstsq(x, y, rcond=None)[0]
    np.testing.assert_allclose(dataset.x_test @ teacher, dataset.y_test, atol=1e-5)


@pytest.mark.parametrize("name", ["sphere", "great_circle", "equicorrelated"])
def test_inputs_of_one_length(name: str) -> None:
    dataset = make(name, q=2.5)
    for x in (dataset.x_train, dataset.x_test):
        np.testing.assert_allclose(np.mean(x.astype(np.float64) ** 2, axis=1), 2.5, rtol=1e-6)


def test_directions_on_the_sphere_are_uniform() -> None:
    """Mean 0 and covariance I, to five standard errors of 20,000 examples."""
    x = make("sphere", examples=20_000, test_fraction=0.5).x_train.astype(np.float64)
    assert np.abs(x.mean(axis=0)).max() < 5 / 100
    assert np.abs(x.T @ x / len(x) - np.eye(6)).max() < 5 * np.sqrt(2) / 100


def test_a_great_circle_by_its_inner_products() -> None:
    dataset = make("great_circle", q=0.5)
    for x, y in ((dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test)):
        angles = np.unwrap(np.arctan2(y[:, 1], y[:, 0]).astype(np.float64))
        np.testing.assert_allclose(np.diff(angles), 2 * np.pi / len(x), atol=1e-6)
        expected = 6 * 0.5 * np.cos(angles[:, None] - angles)
        np.testing.assert_allclose(x @ x.T, expected, atol=1e-5)
    assert dataset.y_train[0].tolist() == [1, 0]


@pytest.mark.parametrize("correlation", [0.0, 0.3, 1.0])
def test_all_pairs_have_the_given_correlation(correlation: float) -> None:
    dataset = make("equicorrelated", correlation=correlation)
    x = np.concatenate([dataset.x_train, dataset.x_test]).astype(np.float64)
    np.testing.assert_allclose(
        x @ x.T / 30, correlation + (1 - correlation) * np.eye(20), atol=1e-6
    )


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("equicorrelated", {"examples": 30}, "31 orthogonal directions do not fit into 30"),
        ("whitened_teacher", {"strengths": "1 1 1 1 1"}, "do not fit into 4 dimensions"),
        ("whitened_teacher", {"examples": 7}, "5 training examples cannot be whitened in 6"),
    ],
)
def test_geometries_that_do_not_fit(name: str, parameters: Any, expected: str) -> None:
    with pytest.raises(GradpropError, match=expected) as caught:
        make(name, **parameters)
    assert "can't be made" in str(caught.value)


@pytest.mark.parametrize("parameters", [SMALL, OTHER], ids=["small", "other"])
@EVERY
def test_sizes_are_known_before_a_data_set_is_made(
    name: str, parameters: Mapping[str, Mapping[str, Any]]
) -> None:
    component = DATASETS.create({"name": name, **parameters[name]})
    made = generate(component)
    classes = made.outputs if made.task == "classification" else 0
    training, features = made.x_train.shape
    assert datasets.sizes(component) == (training, len(made.x_test), features, classes)


@pytest.mark.parametrize("test_fraction", [0.01, 0.3, 0.97])
@pytest.mark.parametrize("examples", [2, 3, 5, 6, 7, 9, 30])
def test_too_few_examples_are_told_before_scikit_learn_meets_them(
    examples: int, test_fraction: float
) -> None:
    """`conflict` says the same as a stratified split, which is then never tried."""
    mixture = {"name": "gaussian_mixture", "classes": 3, "dimension": 2}
    component = DATASETS.create({**mixture, "examples": examples, "test_fraction": test_fraction})
    labels = np.arange(examples) % 3
    try:
        train_test_split(labels, stratify=labels, test_size=test_fraction)
        possible = len(set(labels)) == 3
    except ValueError:
        possible = False
    assert (datasets.conflict(component) is None) == possible
    if not possible:
        with pytest.raises(GradpropError, match=r"can't be made: .*: (raise|lower) "):
            generate(component)


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_a_file_of_something_else_is_named_and_made_again(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "digits.npz"
    path.write_bytes(content)
    with pytest.raises(datasets.ChangedDataError, match=r"digits.npz: damaged or edited"):
        read(path)
    assert path.read_bytes() == content
    assert write(DATASETS.create("digits"), path).checksum == read(path).checksum


def test_an_array_of_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    np.savez(path, x_train=np.zeros(3), header=np.array("[]"))
    with pytest.raises(datasets.ChangedDataError):
        read(path)


def test_the_seed_of_the_digits_is_that_of_their_split() -> None:
    """The examples are the same; which are set aside differs, and 0 is in no id."""
    first, second = (
        datasets.generate(spec.Component("digits", (("seed", seed),))) for seed in (1, 2)
    )
    assert np.bincount(first.y_train).tolist() == np.bincount(second.y_train).tolist()
    assert not np.array_equal(first.y_train, second.y_train)
    default = datasets.DATASETS.create({"name": "digits", "seed": 0})
    assert default == spec.Component("digits")
    assert datasets.generate(default).checksum not in (first.checksum, second.checksum)
