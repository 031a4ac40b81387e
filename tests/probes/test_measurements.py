"""The tables that a study may ask for, against brute force in float64."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from gradprop import errors, jobs
from gradprop.components import datasets
from gradprop.components.activations import ACTIVATIONS
from gradprop.components.datasets import Dataset
from gradprop.grid import config, loading, schema, sharding
from gradprop.probes import histograms, spectra
from gradprop.probes.histograms import count
from gradprop.probes.measurements import MEASUREMENTS, MeasurementError, canonical, measured
from gradprop.probes.trajectories import circle, cosine, curvature, curve, principal_components
from gradprop.results import tables
from gradprop.spec import Cell, Stack, Study
from gradprop.training import loop, stacking
from gradprop.training.recording import StackResult
from gradprop.training.stopwatch import Stopwatch
from tests import keras_reference
from tests.reference import make_cell, run_step

SCHEMA: Any = schema.study_schema()

# Of the hidden layers of a network that is not deeper.
TANH, LINEAR = [ACTIVATIONS["tanh"]] * 100, [ACTIVATIONS["linear"]] * 100


def train(cell: Cell, dataset: Dataset) -> StackResult:
    (result,) = loop.train([Stack((cell,))], dataset, Stopwatch(), "test")
    return result


def parameters(cell: Cell, dataset: Dataset) -> tuple[list[Any], list[Any]]:
    """Return kernels and biases at the start."""
    weights = keras_reference.build_model(cell, dataset).get_weights()
    return weights[::2], weights[1::2]


# ------------------------------------------------------------------------------ identity, config


def test_no_measurement_moves_no_id() -> None:
    cell = make_cell()
    assert cell.column("measurements") == ""
    assert cell.id == "49b36dada138"  # that of the time before there were measurements
    assert replace(cell, measurements=canonical(["spectra"])).id != cell.id


def test_a_choice_has_one_order() -> None:
    given: list[Any] = [{"name": "spectra", "at": "start", "examples": 3.0}, "histograms"]
    chosen = canonical(given)
    assert chosen == canonical(given[::-1])
    assert (
        make_cell(measurements=given).column("measurements") == "histograms + spectra(examples=3)"
    )
    assert measured(chosen)["spectra"] == {"at": "start", "matrix": "all", "examples": 3}
    assert canonical([]) == () and measured(()) == {}
    (found,) = measured(canonical([{"name": "histograms", "signal": 0.5, "at": "probes"}])).values()
    assert (found["signal"], found["at"], found["bins"]) == (0.5, "probes", 100)
    assert measured(canonical(["decision"]))["decision"]["at"] == "end"
    with pytest.raises(MeasurementError, match="'spectra' stands twice"):
        canonical(["spectra", {"name": "spectra", "examples": 2}])


def study(**content: Any) -> dict[str, Any]:
    block = {"dataset": "circles", "depth": 1, "width": 3, "activation": "tanh"}
    training_keys = {"learning_rate": 0.1, "batch_size": 8, "epochs": 0}
    grid_block = {**block, "initializer": "zeros"}
    return {"title": "a", "question": "b", "training": training_keys, "grid": grid_block, **content}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            ["histogram"],
            r"measurements\[0\]: 'histogram' .*Did you mean 'histograms'",
        ),
        ([{"name": "spectra", "exmples": 2}], r"measurements\[0\].*exmples.*'examples'"),
        ([{"name": "decision", "at": "strat"}], r"measurements\[0\].at: 'strat'.*'start'"),
        ([{"name": "histograms", "bins": 0}], r"measurements\[0\].bins"),
        ("spectra", r"measurements: 'spectra' is not a list; write \[spectra\]"),
    ],
)
def test_a_wrong_measurement_gets_one_clear_message(value: Any, message: str) -> None:
    with pytest.raises(errors.ConfigError, match=message):
        config.validate(study(measurements=value), SCHEMA, "s.yaml")
    block = {**study()["grid"], "measurements": value}
    with pytest.raises(errors.ConfigError, match="grid." + message):
        config.validate(study(grid=block), SCHEMA, "s.yaml")


def test_twice_the_same_measurement() -> None:
    content = study(measurements=["spectra", {"name": "spectra", "examples": 2}])
    config.validate(content, SCHEMA, "s.yaml")
    with pytest.raises(errors.ConfigError, match=r"s.yaml: grid.measurements: 'spectra' stands"):
        loading.build_study("s", content, 1, "s.yaml")


def test_blocks_replace_what_the_study_measures() -> None:
    block = study()["grid"]
    blocks = [block, {**block, "depth": 2, "measurements": []}]
    content = study(grid=blocks, measurements=["spectra", "decision"])
    cells = loading.build_study("s", content, 1, "s.yaml").cells
    assert [cell.column("measurements") for cell in cells] == ["spectra + decision", ""]
    assert list(sharding.shards(cells)) == [
        "circles-width3-start-spectra-decision",
        "circles-width3-start",
    ]
    assert [[*tables.keys_of(shard)][3:] for shard in sharding.shards(cells).values()] == [
        ["spectra", "decision"],
        [],
    ]


def test_tables_are_written_read_and_found(tmp_path: Path) -> None:
    """A job writes the tables that its cells ask for, and trains nothing twice."""
    path = tmp_path / "data.npz"
    datasets.write(datasets.DATASETS.create("circles"), path)
    text = canonical([{"name": "decision", "points": 5}, "spectra"])
    cells = [make_cell(dataset="circles", measurements=text, seed=seed) for seed in range(3)]
    (shard,) = sharding.shards([*cells]).values()
    assert set(tables.keys_of(shard)) == {*tables.TABLES, "decision", "spectra"}
    assert jobs.train_shard(shard, tmp_path, path, 2) == 3
    assert jobs.train_shard(shard, tmp_path, path, 2) == 0
    rows = tables.read(tmp_path, "decision", Study("s", "t", "q", tuple(cells)))
    assert len(rows) == 3 * 5 * 5 * 2
    assert list(rows["cell"].unique()) == [cell.id for cell in cells]
    lost = tables.path_of(tmp_path, "spectra", shard.name)
    lost.unlink()
    assert jobs.train_shard(shard, tmp_path, path, 2) == 0
    assert lost.exists()


@pytest.mark.parametrize(
    ("at", "steps"), [("start", [0]), ("end", [9]), ("both", [0, 9]), ("probes", [0, 1, 3, 9])]
)
def test_schedules(at: str, steps: list[int], blobs: Dataset) -> None:
    chosen = [{"name": name, "at": at} for name in ("histograms", "spectra", "trajectories")]
    result = train(make_cell(measurements=canonical(chosen)), blobs)
    for name in ("histograms", "spectra", "trajectories"):
        assert sorted(result.tables[name]["step"].unique()) == steps


# ---------------------------------------------------------------------------------- histograms


def test_counts_by_hand() -> None:
    values = np.array([-2.5, -2, -1.0, 0, 0, 0.99, 1, 2, 2.001, np.inf, -np.inf, np.nan])
    edges, counts = count(values, 4, 2.0)
    assert counts.tolist() == [1, 1, 1, 3, 2, 1, 3]
    assert edges[1:5].tolist() == [[-2, -1], [-1, 0], [0, 1], [1, 2]]
    assert edges[0].tolist() == [-np.inf, -2] and edges[5].tolist() == [2, np.inf]
    assert np.isnan(edges[6]).all()


@pytest.mark.parametrize("values", [[0.0, 0.0], [np.nan, np.inf], [np.inf, 0.0]])
def test_values_without_a_scale(values: list[float]) -> None:
    half = histograms.own_range(np.array(values), 4.0)
    assert half == 1.0
    _, counts = count(np.array(values), 3, half)
    assert counts.sum() == 2
    assert counts[-1] == np.count_nonzero(~np.isfinite(values))


def test_histograms_of_a_network(blobs: Dataset) -> None:
    """Compare with NumPy's histogram of a float64 pass; all values are counted."""
    text = canonical([{"name": "histograms", "bins": 6, "activation": 0.5}])
    cell = make_cell(measurements=text, epochs=0, batch_size=13)
    rows = train(cell, blobs).tables["histograms"]
    (chosen,) = next(loop.minibatches(Stack((cell,)), len(blobs.x_train)))
    x, y = blobs.x_train[chosen], blobs.y_train[chosen]
    exact = run_step(*parameters(cell, blobs), cell.activation, "cross_entropy", x, y)
    groups = {
        "activation": exact.activations,
        "preactivation": exact.preactivations,
        "signal": exact.signals,
        "gradient": exact.gradients,
    }
    for place, found in rows.groupby(["layer", "quantity"]):
        layer, quantity = cast("tuple[int, str]", place)
        values = groups[quantity][layer - 1].value
        half = 0.5 if quantity == "activation" else 4 * np.sqrt(np.mean(values**2))
        expected, edges = np.histogram(values, 6, (-half, half))
        assert found["bin"].tolist() == list(range(-1, 8))
        assert found["low"].tolist()[1:7] == pytest.approx(edges[:-1], rel=1e-5, abs=1e-6)
        assert np.abs(found["count"].to_numpy()[1:7] - expected).sum() <= 2  # float32 at an edge
        assert found["count"].sum() == values.size


# ------------------------------------------------------------------------------------- spectra


def test_spectrum_of_known_matrices() -> None:
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((5, 5)))[0] for _ in range(2))
    known = np.array([1e3, 1.0, 1e-4, 1e-7, 0.0])
    found = spectra.spectrum([left, np.diag(known), right])
    assert found.log10[:4] == pytest.approx(np.log10(known[:4]), abs=1e-6)
    assert found.resolved.tolist() == [True] * 4 + [False]


@pytest.mark.parametrize("exponent", [-3, 3])
def test_spectrum_beyond_the_range_of_float64(exponent: int) -> None:
    found = spectra.spectrum([10.0**exponent * np.eye(3)] * 400)
    assert found.log10 == pytest.approx(400 * exponent, rel=1e-12)


def test_spectrum_of_zeros_and_of_what_is_not_finite() -> None:
    zeros = spectra.spectrum([np.ones((2, 3)), np.zeros((3, 2))])
    assert np.isneginf(zeros.log10).all() and not zeros.resolved.any()
    for bad in (np.nan, np.inf):
        found = spectra.spectrum([np.array([[1.0, bad]]), np.eye(2)])
        assert np.isnan(found.log10).all() and not found.resolved.any()


def by_matrix(rows: pd.DataFrame, *place: Any) -> list[float]:
    names = ["matrix", "layer", "example"]
    chosen = rows[(rows[names] == list(place)).all(axis=1)]
    assert chosen["index"].tolist() == list(range(1, len(chosen) + 1))
    return [float(value) for value in chosen["log10_singular_value"]]


@pytest.mark.parametrize("activation", ["tanh", "relu", "softsign"])
def test_spectra_of_a_network(activation: str, blobs: Dataset) -> None:
    """Compare with Jacobians by central differences of a float64 pass."""
    text = canonical([{"name": "spectra", "examples": 2}])
    cell = make_cell(activation=activation, depth=3, epochs=0, measurements=text, bias_std=0.1)
    rows = train(cell, blobs).tables["spectra"]
    kernels, biases = parameters(cell, blobs)
    phi = ACTIVATIONS[activation].function

    def run(h: np.ndarray, first: int, last: int) -> np.ndarray:
        for number in range(first, last + 1):
            h = h @ kernels[number - 1].astype(np.float64) + biases[number - 1]
            h = phi(h) if number <= cell.depth else h
        return h

    for example in range(2):
        x = blobs.x_train[example].astype(np.float64)

        def jacobian(first: int, last: int, x: np.ndarray = x) -> np.ndarray:
            h, step = run(x, 1, first - 1), 1e-6
            shifts = step * np.eye(len(h))
            ends = run(h + shifts, first, last) - run(h - shifts, first, last)
            return ends / (2 * step)

        cases = {("layer_jacobian", n): (n, n) for n in (1, 2, 3, 4)}
        cases |= {("hidden_jacobian", 0): (2, 3), ("input_output_jacobian", 0): (1, 4)}
        for (name, layer), (first, last) in cases.items():
            values = np.linalg.svd(jacobian(first, last), compute_uv=False)
            found = 10 ** np.array(by_matrix(rows, name, layer, example))
            assert found == pytest.approx(values, rel=1e-4, abs=1e-6), (name, layer)
    for layer, kernel in enumerate(kernels, start=1):
        values = np.linalg.svd(kernel.astype(np.float64), compute_uv=False)
        assert by_matrix(rows, "kernel", layer, 0) == pytest.approx(np.log10(values))


def test_a_linear_network_has_one_end_to_end_map(teacher: Dataset) -> None:
    text = canonical([{"name": "spectra", "matrix": "input_output_jacobian", "examples": 5}])
    changes: dict[str, Any] = {"activation": "linear", "dataset": "linear_teacher", "epochs": 0}
    cell = make_cell(**changes, measurements=text)
    rows = train(cell, teacher).tables["spectra"]
    assert set(rows["example"]) == {0} and set(rows["matrix"]) == {"input_output_jacobian"}
    product = np.linalg.multi_dot([k.astype(np.float64) for k in parameters(cell, teacher)[0]])
    values = np.linalg.svd(product, compute_uv=False)
    assert rows["log10_singular_value"].to_numpy() == pytest.approx(np.log10(values))


def test_an_orthogonal_linear_network_is_an_isometry(teacher: Dataset) -> None:
    """Saxe et al. 2014: all singular values of the square stack are 1, at any depth."""
    text = canonical([{"name": "spectra", "matrix": "hidden_jacobian"}])
    changes: dict[str, Any] = {"activation": "linear", "initializer": "orthogonal", "epochs": 0}
    cell = make_cell(**changes, depth=60, dataset="linear_teacher", measurements=text)
    rows = train(cell, teacher).tables["spectra"]
    assert rows["log10_singular_value"].to_numpy() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("depth", [0, 1])
def test_every_matrix_has_rows_in_shallow_networks(depth: int, blobs: Dataset) -> None:
    for matrix in spectra.MATRICES:
        text = canonical([{"name": "spectra", "matrix": matrix}])
        cell = make_cell(depth=depth, epochs=0, measurements=text)
        assert len(train(cell, blobs).tables["spectra"]) >= 3


# ------------------------------------------------------------------------------------ decision


def test_decision_of_a_network() -> None:
    dataset = datasets.generate(datasets.DATASETS.create("circles"))
    text = canonical([{"name": "decision", "at": "start", "points": 4, "margin": 0.5}])
    cell = make_cell(dataset="circles", measurements=text, epochs=0)
    rows = train(cell, dataset).tables["decision"]
    assert len(rows) == 4 * 4 * 2
    half = 1.5 * np.abs(dataset.x_train).max()
    model = keras_reference.build_model(cell, dataset)
    axis = np.linspace(-half, half, 4)
    assert rows["x1"].to_numpy() == pytest.approx(axis[rows["column"]], rel=1e-6)
    assert rows["x2"].to_numpy() == pytest.approx(axis[rows["row"]], rel=1e-6)
    outputs = model.predict(rows[["x1", "x2"]].to_numpy(np.float32), verbose=0)
    expected = outputs[np.arange(len(rows)), rows["output"]]
    assert rows["value"].to_numpy() == pytest.approx(expected, abs=1e-5)


def test_decision_after_training_is_that_of_the_final_network() -> None:
    """The accuracy on the grid of a separable problem follows the data."""
    dataset = datasets.generate(datasets.DATASETS.create({"name": "circles", "noise": 0.0}))
    cell = make_cell(dataset="circles", measurements="decision", epochs=2, learning_rate=0.5)
    after = train(cell, dataset).tables["decision"]
    same = replace(cell, measurements=canonical([{"name": "decision", "at": "probes"}]))
    every = train(same, dataset).tables["decision"]
    last = every[every["step"] == every["step"].max()].reset_index(drop=True)
    pd.testing.assert_series_equal(after["value"], last["value"], check_exact=True)
    first = every[every["step"] == 0].reset_index(drop=True)
    assert (first["value"] != last["value"]).any()


def test_decision_needs_a_plane(blobs: Dataset) -> None:
    with pytest.raises(MeasurementError, match=r"'decision' needs a data set in the plane.* 7"):
        train(make_cell(measurements="decision"), blobs)


# -------------------------------------------------------------------------------- trajectories


def test_a_circle_by_hand() -> None:
    """The regular polygon of 8 corners and radius sqrt(5)."""
    points = circle(8, 5).astype(np.float64)
    found = curve(points)
    assert found["log10_mean_square"] == pytest.approx(0, abs=1e-6)
    edge = 2 * np.sqrt(5) * np.sin(np.pi / 8)
    assert found["log10_next_distance"] == pytest.approx(np.log10(edge))
    assert found["turning_angle"] == pytest.approx(np.pi / 4)
    angles = 2 * np.pi * np.arange(8) / 8
    assert found["first_correlation"] == pytest.approx(np.cos(angles), abs=1e-6)
    assert found["lag_correlation"] == pytest.approx(np.cos(angles), abs=1e-6)
    assert found["next_correlation"] == pytest.approx(np.cos(np.pi / 4))
    projected = principal_components(points)
    assert np.hypot(projected[:, 0], projected[:, 1]) == pytest.approx(np.sqrt(5))
    assert projected[:, 2] == pytest.approx(0, abs=1e-6)


def test_principal_components_keep_distances_and_have_one_sign() -> None:
    points = np.random.default_rng(1).standard_normal((20, 3)) * [3, 2, 1]
    projected = principal_components(points)
    gaps = [np.linalg.norm(x[:, None] - x[None], axis=2) for x in (points, projected)]
    assert gaps[0] == pytest.approx(gaps[1])
    assert (np.diff(projected.var(axis=0)) < 0).all()
    mirrored = principal_components(-points)
    assert np.abs(mirrored) == pytest.approx(np.abs(projected))
    largest = np.abs(mirrored).argmax(axis=0)
    assert (mirrored[largest, range(3)] > 0).all()
    assert (principal_components(np.zeros((4, 2))) == 0).all()
    assert np.isnan(principal_components(np.array([[1.0, np.inf], [0, 0]]))).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_correlation_of_zeros_and_of_what_is_not_finite() -> None:
    points = np.array([[0.0, 0.0], [1.0, 0.0], [np.nan, 1.0]])
    assert np.isnan(cosine(points, points)).tolist() == [True, False, True]
    found = curve(np.zeros((3, 2)))
    assert np.isneginf(found["log10_mean_square"]).all()
    assert np.isneginf(found["log10_next_distance"]).all()
    assert np.isnan(found["turning_angle"]).all()


@pytest.mark.parametrize("quantity", ["preactivation", "activation"])
@pytest.mark.parametrize("along", ["circle", "data"])
def test_trajectories_of_a_network(along: str, quantity: str, blobs: Dataset) -> None:
    chosen = {"name": "trajectories", "along": along, "inputs": 6, "quantity": quantity}
    cell = make_cell(epochs=0, measurements=canonical([chosen]), bias_std=0.2)
    rows = train(cell, blobs).tables["trajectories"].set_index(["layer", "input"])
    x = circle(6, 7) if along == "circle" else blobs.x_train[:6]
    labels = np.zeros(6, np.int32)
    exact = run_step(*parameters(cell, blobs), cell.activation, "cross_entropy", x, labels)
    passed = exact.preactivations if quantity == "preactivation" else exact.activations
    points: list[np.ndarray] = [x.astype(np.float64), *(values.value for values in passed)]
    for layer, h in enumerate(points):
        found = rows.loc[layer]
        inside = np.square(found[["pc1", "pc2", "pc3"]].to_numpy()).sum(axis=1)
        whole = np.square(h - h.mean(axis=0)).sum(axis=1)
        assert inside + found["pc_rest"].to_numpy() ** 2 == pytest.approx(whole, rel=1e-4)
        values = np.linalg.svd(h - h.mean(axis=0), compute_uv=False)
        assert inside.sum() == pytest.approx(np.square(values[:3]).sum(), rel=1e-4)
        c = np.corrcoef(np.hstack([h, -h])) if layer else None  # a mean of 0: cosine
        for i in range(6):
            following, before = h[(i + 1) % 6], h[i - 1]
            distance = np.linalg.norm(following - h[i])
            assert found["log10_next_distance"][i] == pytest.approx(np.log10(distance), abs=1e-4)
            assert found["log10_mean_square"][i] == pytest.approx(
                np.log10(np.mean(h[i] ** 2)), abs=1e-4
            )
            turn = cosine(following - h[i], h[i] - before)
            assert np.cos(found["turning_angle"][i]) == pytest.approx(turn, abs=1e-4)
            if c is not None:
                lag = np.mean([c[j, (j + i) % 6] for j in range(6)])
                assert found["lag_correlation"][i] == pytest.approx(lag, abs=1e-4)
                assert found["first_correlation"][i] == pytest.approx(c[0, i], abs=1e-4)
                assert found["next_correlation"][i] == pytest.approx(c[i, (i + 1) % 6], abs=1e-4)


def test_lag_correlations_are_means_over_all_pairs() -> None:
    points = np.random.default_rng(5).standard_normal((7, 4))
    found = curve(points)["lag_correlation"]
    for lag in range(7):
        assert found[lag] == pytest.approx(cosine(points, np.roll(points, -lag, axis=0)).mean())


# ----------------------------------------------------------------------------------- curvature


def image(cell: Cell, dataset: Dataset, angles: np.ndarray) -> list[np.ndarray]:
    """Return what a network makes of points of the circle, layer by layer, in float64."""
    features = dataset.x_train.shape[1]
    points = np.zeros((len(angles), features))
    points[:, 0], points[:, 1] = np.cos(angles), np.sin(angles)
    points *= np.sqrt(features)
    labels = np.zeros(len(angles), np.int32)
    exact = run_step(*parameters(cell, dataset), cell.activation, "cross_entropy", points, labels)
    return [points, *(z.value for z in exact.preactivations)]


@pytest.mark.parametrize("activation", ["tanh", "gelu", "softsign"])
def test_curvature_of_a_network_by_central_differences(activation: str, blobs: Dataset) -> None:
    """kappa = |z'' - (z'' . t) t| / |z'|^2 with the unit tangent t, from three close points."""
    initializer = {"name": "variance_scaling", "scale": 4.0}
    shared: dict[str, Any] = {"activation": activation, "initializer": initializer, "depth": 3}
    chosen = {"name": "curvature", "inputs": 5}
    cell = make_cell(**shared, bias_std=0.2, epochs=0, measurements=canonical([chosen]))
    rows = train(cell, blobs).tables["curvature"].set_index(["layer", "input"])
    angles, step = 2 * np.pi * np.arange(5) / 5, 1e-4
    ends = [image(cell, blobs, angles + shift) for shift in (-step, 0.0, step)]
    for layer, (before, z, after) in enumerate(zip(*ends, strict=True)):
        first, second = (after - before) / (2 * step), (after - 2 * z + before) / step**2
        speed = np.linalg.norm(first, axis=1)
        along = (first * second).sum(axis=1) / speed
        kappa = np.sqrt((second**2).sum(axis=1) - along**2) / speed**2
        names = ["log10_mean_square", "log10_expansion", "log10_curvature"]
        lengths, expansion, bend = 10 ** rows.loc[layer][names].to_numpy().T
        units = z.shape[1]
        np.testing.assert_allclose(lengths, (z**2).mean(axis=1), rtol=1e-4)
        np.testing.assert_allclose(expansion, speed**2 / units, rtol=1e-4)
        np.testing.assert_allclose(bend, np.sqrt(units) * kappa, rtol=1e-3)


def test_a_polygon_turns_by_its_curvature_times_its_edges(blobs: Dataset) -> None:
    """Up to terms of second order in the distance of its corners."""
    cell = make_cell(depth=2, epochs=0, initializer={"name": "variance_scaling", "scale": 4.0})
    errors: list[list[float]] = []
    for corners in (1000, 2000):
        z = image(cell, blobs, 2 * np.pi * np.arange(corners) / corners)
        kernels, points = parameters(cell, blobs)[0], circle(corners, 7)
        exact = curvature(points, kernels, [x.astype(np.float32) for x in z[1:]], TANH)
        last = exact["layer"] == 3
        polygon = curve(z[3])
        edges = 10 ** polygon["log10_next_distance"]
        length = np.sqrt(3) * np.mean(10 ** (exact["log10_expansion"][last] / 2)) * 2 * np.pi
        turned = polygon["turning_angle"] / ((edges + np.roll(edges, 1)) / 2)
        bent = 10 ** exact["log10_curvature"][last] / np.sqrt(3)
        errors.append(
            [float(abs(edges.sum() / length - 1)), float(np.abs(turned / bent - 1).max())]
        )
    assert max(errors[1]) < 0.01
    np.testing.assert_allclose(np.array(errors[0]) / errors[1], 4, rtol=0.1)


def test_a_linear_map_makes_an_ellipse() -> None:
    """Its curvature is a b / (a^2 sin^2 t + b^2 cos^2 t)^(3/2) (do Carmo 1976, section 1-5)."""
    points, a, b = circle(9, 2), 3.0, 0.5
    kernel = np.diag([a, b]).astype(np.float32)
    found = curvature(points, [kernel], [points @ kernel], LINEAR)
    x, y = (points.astype(np.float64) / np.sqrt(2)).T
    speed = (a * y) ** 2 + (b * x) ** 2  # of the circle of radius 1, squared
    bend = a * b / speed**1.5 / np.sqrt(2)  # and of radius sqrt(2)
    assert 10 ** found["log10_expansion"] == pytest.approx([*np.ones(9), *speed], rel=1e-6)
    assert 10 ** found["log10_curvature"] == pytest.approx([*np.ones(9), *(np.sqrt(2) * bend)])


@pytest.mark.parametrize("gain", [1e-3, 1e3])
def test_curvature_beyond_the_range_of_float64(gain: float) -> None:
    """Isotropic maps keep a circle: g is gain^(2 layers), the curvature 1 / sqrt(g)."""
    layers = 100
    kernels = [(gain * np.eye(2)).astype(np.float32)] * layers
    found = curvature(circle(3, 2), kernels, [np.zeros((3, 2), np.float32)] * layers, LINEAR)
    decades = 2 * np.log10(float(np.float32(gain))) * found["layer"]
    assert found["log10_expansion"] == pytest.approx(decades, abs=1e-6)
    assert found["log10_curvature"] == pytest.approx(-decades / 2, abs=1e-6)


def test_curvature_of_what_stands_still_and_of_what_is_not_finite() -> None:
    points, identity = circle(3, 2), np.eye(2, dtype=np.float32)
    still = curvature(points, [0 * identity, identity], [0 * points, 0 * points], TANH)
    later = still["layer"] > 0
    assert np.isneginf(still["log10_expansion"][later]).all()
    assert np.isnan(still["log10_curvature"][later]).all()
    for bad in (np.nan, np.inf):
        values = points.copy()
        values[1, 0] = bad
        found = curvature(points, [identity, identity], [values, values], TANH)
        last = found["layer"] == 2
        assert np.isnan(found["log10_expansion"][last]).tolist() == [False, True, False]
        assert np.isnan(found["log10_curvature"][last]).tolist() == [False, True, False]


def test_every_measurement_has_a_source_and_a_definition() -> None:
    for entry in MEASUREMENTS.values():
        assert entry.definition and entry.source


# -------------------------------------------------------------------------------------- modes


def test_modes_are_projections_of_the_outputs(teacher: Dataset) -> None:
    """Against a linear network's own product of kernels: f(x) = M x gives v^T M C u."""
    chosen = [{"name": "modes", "at": "both"}]
    shared = {"activation": "linear", "use_bias": False, "measurements": chosen, "width": 6}
    cell = make_cell(dataset="linear_teacher", **shared)
    stack = Stack((cell, replace(cell, seed=1)))
    found = loop.train_stack(stack, teacher, Stopwatch(), loop.Progress("", 2, 1))
    rows = found.tables["modes"]
    assert set(rows["step"]) == {0, 9}
    start = rows[(rows["cell"] == stack.cells[1].id) & (rows["step"] == 0)].sort_values("index")
    network = stacking.StackedNetwork(stack, teacher)
    product = np.linalg.multi_dot([k.numpy()[1].astype(np.float64) for k in network.kernels])
    x, y = (part.astype(np.float64) for part in (teacher.x_train, teacher.y_train))
    task = y.T @ x / len(x)
    strengths = np.linalg.svd(task, compute_uv=False)
    np.testing.assert_allclose(start["strength"], strengths, rtol=1e-6)
    squares, vectors = np.linalg.eigh(task.T @ task)
    for strength, learned in start[["strength", "learned"]].to_numpy(np.float64):
        u = vectors[:, np.argmin(np.abs(squares - strength**2))]
        v = task @ u / strength
        expected = v @ product.T @ (x.T @ x / len(x)) @ u
        assert learned == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_modes_are_for_regression(blobs: Dataset) -> None:
    cell = make_cell(measurements=["modes"])
    with pytest.raises(MeasurementError, match="'modes' needs a regression task"):
        loop.train_stack(Stack((cell,)), blobs, Stopwatch(), loop.Progress("", 1, 1))


def test_modes_do_not_depend_on_the_stack(teacher: Dataset) -> None:
    cells = tuple(
        make_cell(dataset="linear_teacher", measurements=["modes"], seed=seed) for seed in range(7)
    )

    def modes(*chosen: Any) -> pd.Series[Any]:
        watch, progress = Stopwatch(), loop.Progress("", 1, 1)
        rows = loop.train_stack(Stack(chosen), teacher, watch, progress).tables["modes"]
        return rows.set_index(["cell", "index"])["learned"].sort_index()

    together = modes(*cells)
    for chosen in (cells[4:5], cells[3:6][::-1]):
        alone = modes(*chosen)
        assert alone.to_numpy().tobytes() == together.loc[alone.index].to_numpy().tobytes()
