"""What becomes of a curve of inputs: how it is stretched and bent from layer to layer.

A curve ``x(t)`` of inputs of one length has an image ``z^l(t)`` in every layer. With a prime for
the derivative by ``t``, means over units and an infinite width,

* ``g = mean z'^2`` (expansion, the Euclidean metric over the width): the image is
  ``integral sqrt(width g) dt`` long;
* ``kappa`` is the square root of the width times the curvature of the image, so that a great circle
  of mean square ``q`` has ``g = q`` and ``kappa = 1 / sqrt(q)`` in any number of dimensions;
* ``L_G = integral kappa sqrt(g) dt`` is how far the unit tangent travels (the length of the Gauss
  map's image in the Grassmannian): ``2 pi`` for a circle passed once, more for whatever bends to
  and fro. It does not change if the image is scaled.

``z'`` of the next layer is ``W (phi'(z) z')``, ``z''`` is ``W (phi''(z) z'^2 + phi'(z) z'')``. In a
wide network a unit's ``z, z', z''`` are Gaussian over units. Since ``q`` and ``g`` are the same all
along the curve, ``z'`` is independent of the other two, and ``mean z z'' = -g``. So
``g -> chi_1 g``, and in ``h = mean z''^2 -> sigma_w2 E[(phi''(z) z'^2 + phi'(z) z'')^2]`` the first
square gives ``3 chi_2 g^2``; of the other two terms all that is due to the correlation of ``z``
and ``z''`` cancels by partial integration, which leaves ``chi_1 h``. With ``kappa^2 = h / g^2``
that is the map of ``kappa``.

Source: Poole et al. 2016 (NeurIPS, arXiv:1606.05340), section 4 and equation 8, at the fixed point
of the length; here ``chi_1`` and ``chi_2`` are those of every layer's own length.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradprop.components.activations import ActivationLike
from gradprop.theory.arguments import not_negative
from gradprop.theory.length import chi_1, chi_2, length_fixed_point, length_trajectory

__all__ = ["CurveTrajectory", "curvature_fixed_point", "curve_trajectory"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CurveTrajectory:
    """The image of a closed curve, ``t`` from 0 to ``2 pi``, in layers 1 to depth.

    Attributes
    ----------
    expansion : ndarray of float64, shape (depth,)
        ``g``, the mean over units of ``(dz/dt)^2``.
    curvature : ndarray of float64, shape (depth,)
        ``kappa``, the curvature times the square root of the width.
    """

    expansion: FloatArray
    curvature: FloatArray

    @property
    def grassmannian_length(self) -> FloatArray:
        """``L_G = 2 pi kappa sqrt(g)``, shape (depth,)."""
        return 2.0 * math.pi * self.curvature * np.sqrt(self.expansion)


def curve_trajectory(
    activation: ActivationLike,
    q_1: float,
    expansion_1: float,
    curvature_1: float,
    depth: int,
    sigma_w2: float,
    sigma_b2: float = 0.0,
) -> CurveTrajectory:
    """Expansion and curvature of a curve's image in layers 1 to `depth`.

    ``g^l = chi_1 g^(l-1)`` and ``(kappa^l)^2 = 3 chi_2 / chi_1^2 + (kappa^(l-1))^2 / chi_1``, with
    ``chi_1`` and ``chi_2`` at ``q^(l-1)``.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    q_1, expansion_1, curvature_1 : float
        Mean square of the pre-activations of layer 1, and ``g`` and ``kappa`` there. Inputs on a
        circle of mean square ``q_0`` give ``s q_0 + sigma_b2``, ``s q_0`` and
        ``1 / sqrt(s q_0)`` with ``s`` the first layer's weight variance times fan-in.
    depth : int
        Number of layers, at least 1.
    sigma_w2, sigma_b2 : float
        Weight variance times fan-in, and bias variance, of layers 2 to `depth`.

    Returns
    -------
    CurveTrajectory
        The curvature is infinite from layer 2 on where ``phi'`` jumps, NaN where ``g = 0``.

    Raises
    ------
    ValueError
        As `length_trajectory`.

    References
    ----------
    Poole et al. 2016, arXiv:1606.05340, equation 8.
    """
    not_negative(expansion_1=expansion_1, curvature_1=curvature_1)
    lengths = length_trajectory(activation, q_1, depth, sigma_w2, sigma_b2)
    expansion, squared = np.empty(depth), np.empty(depth)
    expansion[0], squared[0] = expansion_1, curvature_1**2
    # many lengths are one q*
    chi = functools.cache(
        lambda q: (chi_1(activation, q, sigma_w2), chi_2(activation, q, sigma_w2))
    )
    with np.errstate(over="ignore", under="ignore"):
        for layer in range(1, depth):
            q = float(lengths[layer - 1])
            stretch, bend = chi(q)
            expansion[layer] = stretch * expansion[layer - 1]
            added = 3.0 * np.float64(bend)
            squared[layer] = (
                math.nan if stretch == 0.0 else (added / stretch + squared[layer - 1]) / stretch
            )
    return CurveTrajectory(expansion, np.sqrt(squared))


def curvature_fixed_point(
    activation: ActivationLike, sigma_w2: float, sigma_b2: float = 0.0, q_start: float = 1.0
) -> float:
    """Curvature that the image of every curve tends to.

    ``kappa* = sqrt(3 chi_2 / (chi_1 (chi_1 - 1)))`` in the chaotic phase, where new curvature is
    made as fast as expansion takes it away. In the ordered phase and at the edge of chaos it
    grows without bound.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    sigma_w2, sigma_b2 : float
        Weight variance times fan-in, and bias variance.
    q_start : float, optional
        See `length_fixed_point`.

    Returns
    -------
    float
        ``kappa*``; infinite where ``chi_1 <= 1``.

    Raises
    ------
    ValueError
        As `length_fixed_point`.

    References
    ----------
    Fixed point of the map of Poole et al. 2016, arXiv:1606.05340, equation 8.
    """
    q = length_fixed_point(activation, sigma_w2, sigma_b2, q_start)
    stretch = chi_1(activation, q, sigma_w2)
    if stretch <= 1.0:
        return math.inf
    return math.sqrt(3.0 * chi_2(activation, q, sigma_w2) / (stretch * (stretch - 1.0)))
