"""The chapter on recurrence, on linear networks that NumPy runs in float64."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from config.studies.recurrence import claims as recurrence
from config.studies.recurrence import figures as own
from config.studies.recurrence.rates import growth, rates
from gradprop import claims
from gradprop.components.initializers import draw_kernel
from gradprop.spec import Cell
from tests.reference import make_cell

Float64 = NDArray[np.float64]

DEPTH, WIDTH, SEEDS = 60, 32, 12


def network(seed: int, tied: bool, initializer: Any = "variance_scaling") -> Cell:
    return make_cell(
        depth=DEPTH,
        width=WIDTH,
        activation="linear",
        initializer=initializer,
        use_bias=False,
        seed=seed,
        epochs=0,
        tied=tied,
    )


def measure(cell: Cell, shared: bool) -> tuple[Float64, Float64, Float64, float]:
    """Return log10 RMS of dC/dz and of z, the norms of dC/dW_l, and that of all gradients.

    The layers share the kernel that the cell draws, or each draws its own here.
    """
    random = np.random.default_rng(1000 + cell.seed)
    own = draw_kernel(cell, 2, (WIDTH, WIDTH)).astype(np.float64)
    middle = [
        own if shared else random.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)
        for _ in range(DEPTH - 1)
    ]
    ends = random.standard_normal((2, WIDTH, WIDTH)) / np.sqrt(WIDTH)
    kernels = [ends[0], *middle, ends[1]]
    hidden = [random.standard_normal((4, WIDTH))]
    for kernel in kernels:
        hidden.append(hidden[-1] @ kernel)
    signals = [np.ones((4, WIDTH))]
    for kernel in reversed(kernels[1:]):
        signals.insert(0, signals[0] @ kernel.T)
    gradients = [h.T @ s for h, s in zip(hidden[:-1], signals, strict=True)]
    total = gradients[0], sum(gradients[1:-1]), gradients[-1]
    norms = [np.linalg.norm(g) for g in gradients]
    rms = [np.log10([np.sqrt((x**2).mean()) for x in part]) for part in (signals, hidden[1:])]
    return rms[0], rms[1], np.log10(norms), float(np.log10(np.linalg.norm(np.stack(total))))


def tables_of(shares: dict[bool, bool], initializer: Any = "variance_scaling") -> Any:
    """Return tables in which networks that are tied or not share a kernel, or do not."""
    cells, layers, steps = [], [], []
    for tied, shared in shares.items():
        for seed in range(SEEDS):
            cell = network(seed, tied, initializer)
            signal, length, norms, total = measure(cell, shared)
            cells.append(cell)
            layers.append(
                pd.DataFrame(
                    {
                        "cell": cell.id,
                        "step": 0,
                        "layer": range(1, DEPTH + 2),
                        "signal_log10_rms": signal,
                        "preactivation_log10_mean_square": 2 * length,
                        "gradient_log10_norm": norms,
                    }
                )
            )
            steps.append({"cell": cell.id, "step": 0, "gradient_log10_norm": total})
    study = SimpleNamespace(name="recurrence", cells=tuple(cells), names={})
    return SimpleNamespace(
        study=study, layers=pd.concat(layers, ignore_index=True), steps=pd.DataFrame(steps)
    )


@pytest.fixture(scope="module")
def honest() -> Any:
    return tables_of({True: True, False: False})


@pytest.fixture(scope="module")
def swapped() -> Any:
    """Networks that are said to share a kernel, and do not, and the other way around."""
    return tables_of({True: False, False: True})


def verdicts(tables: Any, *ids: str) -> Iterator[str]:
    for claim in recurrence.CLAIMS:
        if claim.id in ids:
            yield from (row.verdict for row in claims.judge(claim, tables))


OF_ONE_KERNEL = ("spectral-radius", "spectral-radius-forward", "grows-faster", "spreads-wider")


@pytest.mark.parametrize("claim", [*OF_ONE_KERNEL, "uses-add-up"])
def test_claims_hold_for_networks_that_share_a_kernel(honest: Any, claim: str) -> None:
    assert list(verdicts(honest, claim)) == [claims.SUPPORTED]


@pytest.mark.parametrize("claim", OF_ONE_KERNEL)
def test_they_fail_for_networks_that_do_not(swapped: Any, claim: str) -> None:
    assert list(verdicts(swapped, claim)) == [claims.NOT_SUPPORTED]


def test_a_shared_kernel_does_not_pass_for_independent_ones(swapped: Any) -> None:
    assert list(verdicts(swapped, "lyapunov-exponent")) == [claims.NOT_SUPPORTED]


def test_parts_that_point_anywhere_do_not_add_up() -> None:
    tables = tables_of({True: True})
    norms = tables.layers.assign(square=10 ** (2 * tables.layers["gradient_log10_norm"]))
    total = norms.groupby("cell")["square"].sum()
    tables.steps["gradient_log10_norm"] = 0.5 * np.log10(tables.steps["cell"].map(total))
    assert list(verdicts(tables, "uses-add-up")) == [claims.NOT_SUPPORTED]


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_parts_of_a_multiple_of_the_identity_are_equal(scale: float) -> None:
    tables = tables_of({True: True}, {"name": "identity", "gain": scale})
    ((_, _, parts, sums),) = recurrence._uses(tables)
    np.testing.assert_allclose(sums, [part.sum() for part in parts], rtol=1e-9)
    np.testing.assert_allclose(rates(tables)["rate"], np.log10(scale), rtol=1e-6)


def test_rates_of_single_layers_never_exceed_the_bound(honest: Any) -> None:
    found = rates(honest).query("tied")
    signals = honest.layers.pivot(index="cell", columns="layer", values="signal_log10_rms")
    for cell, bound in zip(found["network"], found["bound"], strict=True):
        steps = -np.diff(signals.loc[cell.id])[: DEPTH - 1]
        assert steps.max() < bound + 1e-9
    assert (found["radius"] < found["bound"]).all()


def test_growth_of_a_kernel_by_powers_and_by_the_gram_matrix() -> None:
    cell = network(3, tied=True)
    kernel = draw_kernel(cell, 2, (WIDTH, WIDTH)).astype(np.float64)
    found = growth(cell)
    power = np.linalg.norm(np.linalg.matrix_power(kernel, 4000), 2)
    assert found.radius == pytest.approx(np.log10(power) / 4000, abs=1e-3)
    largest = np.linalg.eigvalsh(kernel @ kernel.T).max()
    assert found.norm == pytest.approx(np.log10(largest) / 2, abs=1e-12)


def test_a_bound_below_one_vanishes_and_small_rates_do_not_explode() -> None:
    cell = make_cell(depth=DEPTH, activation="tanh", tied=True, epochs=0, width=WIDTH)
    kinds = {"bound": [-0.1, 0.3], "radius": [-0.2, 0.1], "rate": [-0.3, 0.05], "seed": [0, 1]}
    columns: dict[str, Any] = {
        "activation": "tanh",
        "initializer": "variance_scaling",
        "width": WIDTH,
    }
    rows: Any = pd.DataFrame(kinds).assign(depth=DEPTH, tied=True, gamma=0.0, **columns)
    rows["network"] = [cell, cell]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recurrence, "rates", lambda tables: rows)
        tables: Any = None
        (small,) = recurrence._small_norms(tables)
        (large,) = recurrence._exploding(tables)
        assert (small.measured, small.networks) == (-0.3, 1)
        assert (large.measured, large.networks) == (0.3, 1)
        rows["rate"] = recurrence.ROUNDING / 2
        assert list(recurrence._exploding(tables)) == []


def test_the_figure_has_a_mark_for_every_network_with_a_shared_kernel(honest: Any) -> None:
    rows = own.prepare(honest, {"select": {"tied": True}})
    assert len(rows) == SEEDS
    assert set(rows["initializer"]) == {"variance 1/n"}
    figure = own.draw(rows, {})
    drawn = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", None)]
    np.testing.assert_array_equal(drawn[-1].get_xdata(), rows["radius"])
    np.testing.assert_array_equal(drawn[-1].get_ydata(), rows["rate"])
    off = (rows["rate"] - rows["radius"]).abs().max()
    assert f"Linear networks are at most {off:.2g} from the first." in own.describe(rows, {})
    lost = rows.assign(rate=rows["rate"].mask(rows["seed"] == 0))
    assert "1 networks have no finite rate." in own.describe(lost, {})
