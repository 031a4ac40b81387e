"""What the kinds of figures need of the grid that they draw: read without drawing anything.

A study's own kinds say the same in `gradprop.figures.kind.Kind`.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradprop.spec import Component


@dataclass(frozen=True)
class Needs:
    """What a kind of figure needs.

    Attributes
    ----------
    shows
        Parameters of a cell that may differ between the networks of one line, because they are an
        axis of the kind or it chooses among their values. In all others but the seed, the networks
        of a line have to agree.
    architectures
        Whether lines that the option `hue: widths` divides are told by the width, too.
    measurement
        The one that is drawn; networks without it are not in the figure.
    initializer
        One that has to be in the grid: the figure is of networks with this one, whatever its
        parameters.
    """

    shows: tuple[str, ...] = ()
    architectures: bool = False
    measurement: str = ""
    initializer: Component | None = None


# Weight and bias variance, the plane of mean-field theory.
_PLANE = ("initializer", "use_bias", "bias_std")
_PRODUCTS = Needs(shows=("depth", "initializer"), initializer=Component("identity"))
_TIMES = Needs(shows=("depth", "learning_rate"), architectures=True)
_LENGTHS = Needs(shows=("depth",), architectures=True)
_OVER_DEPTH = Needs(shows=("depth",))
_CIRCLE = ("activation", "width", "depth", *_PLANE)

# In the order of the manual.
KINDS: dict[str, Needs] = {
    "layer_profile": Needs(),
    "layer_heatmap": Needs(),
    "learning_curves": Needs(),
    "slope": Needs(),
    "atlas": _OVER_DEPTH,
    "steps_to_target": _OVER_DEPTH,
    "divergence": _OVER_DEPTH,
    "update_ratio": Needs(),
    "product_output": _PRODUCTS,
    "product_gradient": _PRODUCTS,
    "float_limits": _PRODUCTS,
    "random_products": Needs(shows=("initializer",), initializer=Component("variance_scaling")),
    "fluctuations": Needs(),
    "phase_diagram": Needs(shows=("activation", *_PLANE)),
    "depth_scales": Needs(shows=_PLANE),
    "trainability_map": Needs(shows=("activation", "depth", *_PLANE)),
    "map_iteration": Needs(shows=("dataset", "initializer")),
    "fixed_points": Needs(shows=("depth", *_PLANE)),
    "fixed_point_distance": Needs(shows=_PLANE),
    "circle": Needs(shows=_CIRCLE, measurement="trajectories"),
    "curvature": Needs(shows=_CIRCLE, measurement="curvature"),
    "layer_curves": Needs(),
    "singular_values": Needs(shows=("depth",), measurement="spectra"),
    "spectral_variance": Needs(shows=("depth",), measurement="spectra"),
    "decision_boundary": Needs(measurement="decision"),
    "final_spread": Needs(),
    "mean_length": _LENGTHS,
    "length_spread": _LENGTHS,
    "learning_time": _TIMES,
    "optimal_rate": _TIMES,
    "modes": Needs(measurement="modes"),
    "histograms": Needs(measurement="histograms"),
    "layer_singular_values": Needs(measurement="spectra"),
}
