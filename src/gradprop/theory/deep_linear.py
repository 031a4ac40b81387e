"""Exact learning dynamics of deep linear networks.

Saxe, McClelland & Ganguli 2014 (ICLR, arXiv:1312.6120), below "Saxe et al.": with whitened inputs
and decoupled initial conditions, gradient flow acts on each singular mode of the input-output
correlation on its own. A mode of strength ``s`` is learned as ``u(t)`` from ``u_0`` to ``s`` along
a sigmoid, with a plateau that grows like ``ln(s / u_0) / s``.

Time is in the unit of ``tau``, which is 1 over the learning rate if time is counted in steps (full
batch, loss ``|Y - W_2 W_1 X|**2 / 2`` with ``X X^T = 1``). ``layers`` counts as in the paper:
layers of units including input and output, so 3 means two weight matrices.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import scipy

from gradprop.theory.arguments import at_least, not_negative, positive

__all__ = [
    "half_time",
    "infinite_depth_learning_time",
    "learning_time",
    "mode_strength",
]

FloatArray = npt.NDArray[np.float64]


def _check_mode(s: float, u_0: float, tau: float, layers: int = 3) -> None:
    if not 0.0 < u_0 < s < math.inf:
        raise ValueError(f"need 0 < u_0 < s, got u_0 = {u_0} and s = {s}")
    positive(tau=tau)
    at_least(3, layers=layers)


def mode_strength(
    t: npt.ArrayLike, s: float, u_0: float, tau: float = 1.0, layers: int = 3
) -> FloatArray:
    """Strength of a mode at given times.

    ``tau du/dt = (N - 1) u**(2 - 2 / (N - 1)) (s - u)``, ``u(0) = u_0``, for ``N`` layers of units.
    For ``N = 3``: ``u(t) = s e / (e - 1 + s / u_0)`` with ``e = exp(2 s t / tau)``; deeper networks
    by numerical integration, to about 1e-8.

    Parameters
    ----------
    t : array_like
        Times, not negative.
    s : float
        Final strength: singular value of the input-output correlation.
    u_0 : float
        Initial strength, between 0 and `s`.
    tau : float, optional
        Time constant.
    layers : int, optional
        Layers of units ``N`` (weight matrices plus 1), at least 3.

    Returns
    -------
    ndarray of float64
        Of the shape of `t`.

    Raises
    ------
    ValueError
        If an argument is out of range.
    ArithmeticError
        If the numerical integration fails.

    References
    ----------
    Saxe et al.
    """
    _check_mode(s, u_0, tau, layers)
    times = np.asarray(t, dtype=np.float64)
    not_negative(times=times)
    if layers == 3:
        decay = np.exp(-2.0 * s * times / tau)
        return np.asarray(s / (1.0 + (s / u_0 - 1.0) * decay), dtype=np.float64)
    return _integrate(times, s, u_0, tau, layers)


def _integrate(times: FloatArray, s: float, u_0: float, tau: float, layers: int) -> FloatArray:
    """Solve for ``y = ln(u / (s - u))``: it runs steadily, and ``u`` stays within (0, s)."""
    weights = layers - 1

    def rate(_: float, y: FloatArray) -> FloatArray:
        # dy/dt = u' s / (u (s - u))
        u = s * scipy.special.expit(y)
        return np.asarray(weights * s * u ** (1.0 - 2.0 / weights) / tau, dtype=np.float64)

    order, inverse = np.unique(times, return_inverse=True)
    if order.size == 0:
        return np.empty(times.shape)
    start = [math.log(u_0) - math.log(s - u_0)]
    span = (0.0, float(order[-1]))
    if span[1] == 0.0:
        return np.full(times.shape, u_0)
    solution = scipy.integrate.solve_ivp(
        rate, span, start, method="DOP853", t_eval=order, rtol=1e-10, atol=1e-10
    )
    if not solution.success:
        raise ArithmeticError(f"integration failed: {solution.message}")
    strengths = s * scipy.special.expit(solution.y[0])
    return np.asarray(strengths[inverse].reshape(times.shape), dtype=np.float64)


def learning_time(u_f: float, s: float, u_0: float, tau: float = 1.0, layers: int = 3) -> float:
    """Time at which a mode reaches the strength `u_f`.

    ``t = tau / (N - 1) int_{u_0}^{u_f} du / (u**(2 - 2 / (N - 1)) (s - u))``. For ``N = 3``:
    ``(tau / (2 s)) ln[u_f (s - u_0) / (u_0 (s - u_f))]``; else with ``p = 2 / (N - 1)`` and
    ``x = u / s`` the antiderivative ``s**(p-2) x**(p-1) 2F1(1, p - 1; p; x) / (p - 1)``.

    Parameters
    ----------
    u_f : float
        Strength to reach, from `u_0` to below `s`.
    s : float
        Final strength.
    u_0 : float
        Initial strength, between 0 and `s`.
    tau : float, optional
        Time constant.
    layers : int, optional
        Layers of units ``N`` (weight matrices plus 1), at least 3.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Saxe et al. for three layers and infinitely many; the integral in between is derived here.
    """
    _check_mode(s, u_0, tau, layers)
    if not u_0 <= u_f < s:
        raise ValueError(f"need u_0 <= u_f < s, got u_f = {u_f} with u_0 = {u_0} and s = {s}")
    if layers == 3:
        logs = math.log(u_f) - math.log(s - u_f) - math.log(u_0) + math.log(s - u_0)
        return tau / (2.0 * s) * logs
    p = 2.0 / (layers - 1)
    total = _antiderivative(u_f / s, p) - _antiderivative(u_0 / s, p)
    return tau / (layers - 1) * math.pow(s, p - 2.0) * total


def _antiderivative(x: float, p: float) -> float:
    """``int dx x**(p - 2) / (1 - x)``."""
    return math.pow(x, p - 1.0) / (p - 1.0) * float(scipy.special.hyp2f1(1.0, p - 1.0, p, x))


def half_time(s: float, u_0: float, tau: float = 1.0, layers: int = 3) -> float:
    """Time at which half of a mode is learned, ``u = s / 2``.

    For three layers ``(tau / (2 s)) ln(s / u_0 - 1)``.

    Parameters
    ----------
    s : float
        Final strength.
    u_0 : float
        Initial strength, between 0 and ``s / 2``.
    tau : float, optional
        Time constant.
    layers : int, optional
        Layers of units ``N`` (weight matrices plus 1), at least 3.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Saxe et al.
    """
    return learning_time(0.5 * s, s, u_0, tau, layers)


def infinite_depth_learning_time(u_f: float, s: float, u_0: float, tau: float = 1.0) -> float:
    """Learning time times the number of layers, in the limit of infinitely many.

    ``lim N t = tau [(1 / s**2) ln(u_f (s - u_0) / (u_0 (s - u_f))) + 1 / (s u_0) - 1 / (s u_f)]``.
    The optimal learning rate falls like ``1 / N``, so the time in steps stays finite: learning in
    infinitely deep networks is slower by a finite amount only.

    Parameters
    ----------
    u_f : float
        Strength to reach, from `u_0` to below `s`.
    s : float
        Final strength.
    u_0 : float
        Initial strength, between 0 and `s`.
    tau : float, optional
        Time constant.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Saxe et al.
    """
    _check_mode(s, u_0, tau)
    if not u_0 <= u_f < s:
        raise ValueError(f"need u_0 <= u_f < s, got u_f = {u_f} with u_0 = {u_0} and s = {s}")
    logs = math.log(u_f) - math.log(s - u_f) - math.log(u_0) + math.log(s - u_0)
    return tau * (logs / s**2 + 1.0 / (s * u_0) - 1.0 / (s * u_f))
