"""Counts of a layer's values in linear bins, for densities as in Glorot and Bengio 2010."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradprop.probes.statistics import LayerRecord, Sample

QUANTITIES = ("activation", "preactivation", "signal", "gradient")


def count(
    values: NDArray[np.float64], bins: int, half_range: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Count values in equal bins of [-half_range, half_range] and outside of them.

    Parameters
    ----------
    values
        Any shape; NaN and infinity are counted, not dropped.
    bins
        Number of bins inside; each includes its lower edge, the last its upper one too.
    half_range
        Positive.

    Returns
    -------
    edges
        Shape (bins + 3, 2): lower and upper end of bins -1 (below, from -inf), 0 … bins - 1,
        bins (above, to inf) and bins + 1 (not finite: NaN to NaN).
    counts
        Shape (bins + 3,); their sum is the number of values.
    """
    finite = values[np.isfinite(values)]
    inside, edges = np.histogram(finite, bins, (-half_range, half_range))
    below, above = np.sum(finite < edges[0]), np.sum(finite > edges[-1])
    counts = np.array([below, *inside, above, values.size - finite.size], dtype=np.int64)
    low = np.array([-np.inf, *edges, np.nan])
    high = np.array([*edges, np.inf, np.nan])
    return np.stack([low, high], axis=1), counts


def own_range(values: NDArray[np.float64], rms_multiple: float) -> float:
    """Return `rms_multiple` times the root mean square of the finite values; 1 if that is 0."""
    finite = values[np.isfinite(values)]
    rms = float(np.sqrt(np.square(finite).mean())) if finite.size else 0.0
    return rms_multiple * rms or 1.0


def histograms(
    record: LayerRecord, replica: int, *, bins: int, rms: float, **half_ranges: float
) -> dict[str, NDArray[Any]]:
    """Count activations, pre-activations, back-propagated signals and weight gradients.

    Parameters
    ----------
    record
        One layer at a probe: the values of the training step itself, a minibatch of examples.
    replica
        Position of the cell in its stack.
    bins
        Number of bins inside the range.
    rms
        The range of a quantity is this multiple of its root mean square in this layer …
    half_ranges
        … or, for quantities whose entry here is not 0, fixed: from minus to plus the entry, in
        all layers.

    Returns
    -------
    dict
        Columns ``quantity``, ``bin``, ``low``, ``high``, ``count`` (see `count`).
    """
    columns: dict[str, list[Any]] = {"quantity": [], "bin": [], "edges": [], "count": []}
    for quantity in QUANTITIES:
        sample: Sample = getattr(record, quantity)
        values = sample.values[replica].astype(np.float64) * sample.scale
        half_range = half_ranges.get(quantity, 0.0) or own_range(values, rms)
        edges, counts = count(values, bins, half_range)
        columns["quantity"].append(np.full(len(counts), quantity, dtype=object))
        columns["bin"].append(np.arange(-1, bins + 2))
        columns["edges"].append(edges)
        columns["count"].append(counts)
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    low, high = joined.pop("edges").T
    return {**joined, "low": low, "high": high}
