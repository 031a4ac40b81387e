"""Learning curves of deep linear networks against gradient descent and quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate

from gradprop.theory import half_time, infinite_depth_learning_time, learning_time, mode_strength


def test_reference_half_times() -> None:
    expected = {3.0: 1.3343, 2.0: 1.9001, 1.5: 2.4375, 1.0: 3.4534, 0.6: 5.3294}
    for s, t in expected.items():
        assert half_time(s, 1e-3) == pytest.approx(t, abs=6e-5)
        assert half_time(s, 1e-3, tau=7.0) == pytest.approx(7.0 * t, abs=6e-4)
        assert float(mode_strength(half_time(s, 1e-3), s, 1e-3)) == pytest.approx(0.5 * s)


@pytest.mark.parametrize("layers", [3, 4, 5, 10, 60])
def test_curve_and_time_are_inverse(layers: int) -> None:
    s, u_0, tau = 1.7, 1e-2, 2.5
    targets = np.array([0.011, 0.1, 0.85, 1.5, 1.69])
    times = [learning_time(float(u), s, u_0, tau, layers) for u in targets]
    np.testing.assert_allclose(mode_strength(times, s, u_0, tau, layers), targets, rtol=1e-7)
    shape = mode_strength(np.array([[times[2], 0.0], [times[4], times[2]]]), s, u_0, tau, layers)
    np.testing.assert_allclose(shape, [[0.85, u_0], [1.69, 0.85]], rtol=1e-7)


@pytest.mark.parametrize("layers", [3, 4, 7, 100])
@pytest.mark.parametrize("u_0", [1e-6, 0.3])
def test_time_is_the_integral(layers: int, u_0: float) -> None:
    s, u_f = 2.0, 1.98
    power = 2.0 - 2.0 / (layers - 1)

    def integrand(y: float) -> float:  # in y = ln u
        u = math.exp(y)
        return math.pow(u, 1.0 - power) / (s - u)

    total = integrate.quad(
        integrand, math.log(u_0), math.log(u_f), epsrel=1e-11, epsabs=0.0, limit=500
    )[0]
    assert learning_time(u_f, s, u_0, 1.3, layers) == pytest.approx(
        1.3 * total / (layers - 1), rel=1e-9
    )
    assert half_time(s, u_0, 1.3, layers) == learning_time(1.0, s, u_0, 1.3, layers)


def test_infinite_depth_is_the_limit() -> None:
    s, u_0, u_f = 1.4, 0.05, 1.3
    limit = infinite_depth_learning_time(u_f, s, u_0, 2.0)
    deep = 100_000 * learning_time(u_f, s, u_0, 2.0, 100_000)
    assert deep == pytest.approx(limit, rel=2e-4)


def test_curve_starts_and_ends_right() -> None:
    for layers in (3, 6):
        u = mode_strength([0.0, 1e6], 0.7, 1e-3, 1.0, layers)
        np.testing.assert_allclose(u, [1e-3, 0.7], rtol=1e-9)
        assert mode_strength([], 0.7, 1e-3, 1.0, layers).shape == (0,)
        assert mode_strength(0.0, 0.7, 1e-3, 1.0, layers).shape == ()


@pytest.mark.parametrize("layers", [3, 5])
def test_gradient_descent_follows_the_curves(layers: int) -> None:
    rng = np.random.default_rng(16)
    n, strengths, u_0, rate = 6, np.array([3.0, 2.0, 1.2]), 1e-2, 4e-4
    left = np.linalg.qr(rng.standard_normal((n, n)))[0]
    right = np.linalg.qr(rng.standard_normal((n, n)))[0]
    target = (left[:, :3] * strengths) @ right[:, :3].T  # input-output correlation, X X^T = 1
    weights_count = layers - 1
    # decoupled start: every factor has the same strength in every mode, rotated into place
    bases = [right, *(np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(layers - 2))]
    bases.append(left)
    scale = u_0 ** (1.0 / weights_count)
    weights = [scale * bases[k + 1] @ bases[k].T for k in range(weights_count)]
    steps, record = 12_000, 1000
    measured, times = [], []
    for step in range(steps):
        prefix = [np.eye(n)]
        for w in weights:
            prefix.append(w @ prefix[-1])
        if step % record == 0:
            measured.append(np.diag(left.T @ prefix[-1] @ right)[:3])
            times.append(step * rate)
        back = target - prefix[-1]
        gradients = []
        for k in range(weights_count - 1, -1, -1):
            gradients.append(back @ prefix[k].T)
            back = weights[k].T @ back
        for w, g in zip(weights, gradients[::-1], strict=True):
            w += rate * g
    exact = [mode_strength(times, float(s), u_0, 1.0, layers) for s in strengths]
    # the step size is finite: relative errors of order rate * s**2 * time
    np.testing.assert_allclose(np.asarray(measured), np.transpose(exact), rtol=0.02)


def test_bad_arguments() -> None:
    for arguments in ((1.0, 0.0), (1.0, 1.0), (1.0, 2.0)):
        with pytest.raises(ValueError, match="u_0"):
            half_time(*arguments)
    with pytest.raises(ValueError, match="u_f"):
        learning_time(1.0, 1.0, 0.1)
    with pytest.raises(ValueError, match="u_f"):
        infinite_depth_learning_time(0.01, 1.0, 0.1)
    with pytest.raises(ValueError, match="tau"):
        half_time(1.0, 0.1, tau=0.0)
    with pytest.raises(ValueError, match="layers must be at least 3"):
        mode_strength(1.0, 1.0, 0.1, layers=2)
    with pytest.raises(ValueError, match="times"):
        mode_strength(-1.0, 1.0, 0.1)
