"""Where diagnoses and alarms begin: keys of a study, with defaults and their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gradprop.spec import Study

# As wide as the usual band of the update-to-weight ratio: beyond, no one learning rate keeps the
# updates of both the first and the last layer within it.
MOST_DECADES = 2.0
# Above every signal that float32 holds and that is not about to overflow.
ANY = 1e38
AUTOTRAINER = "Zhang et al. 2021, AUTOTRAINER"


def threshold(default: Any, definition: str, source: str) -> Any:
    """Return the field of a bound with its definition and its source."""
    return field(default=default, metadata={"definition": definition, "source": source})


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of a study; the metadata of every field defines it and names its source.

    Attributes
    ----------
    compares
        What has to stay alike over the layers: ``signal``, the straight line through log10 RMS
        dC/dz of the hidden layers, or ``weight_gradients``, the norms of dC/dW of the first layer
        and of the output layer.
    vanishing, exploding
        Factors by which it may change on its way from the last layer to the first.
    first_layer
        A signal only vanishes if that of the first layer is below this, too.
    length
        Factor by which the mean square of pre-activations may change over the hidden layers.
    small_updates … initial_loss
        Bounds of the alarms of the same names (`gradprop.analysis.alarms`).
    """

    compares: Literal["signal", "weight_gradients"] = threshold(
        "signal",
        "what is compared: `signal`, the straight line through log10 RMS dC/dz of the hidden "
        "layers; `weight_gradients`, the norms of dC/dW of the first and of the output layer",
        "mean-field theory speaks of the signal (Schoenholz et al. 2017)",
    )
    vanishing: float = threshold(
        10**-MOST_DECADES,
        "`vanishing` below this ratio of the first layer to the last",
        "as wide as the usual band of updates, two decades (`small_updates` to `large_updates`)",
    )
    exploding: float = threshold(
        10**MOST_DECADES,
        "`exploding` above this ratio of the first layer to the last",
        "as wide as the usual band of updates, two decades (`small_updates` to `large_updates`)",
    )
    first_layer: float = threshold(
        ANY,
        "`vanishing` only if the first layer, too, is below this: RMS dC/dz or the norm of dC/dW",
        "no condition by default: what is small in all layers alike is a matter of the rate",
    )
    length: float = threshold(
        100.0,
        "the length is `exploding` above this ratio of mean z² of the last hidden layer to the "
        "first, `vanishing` below its reciprocal",
        "Glorot and Bengio 2010, eq. 8, ask for 1",
    )
    small_updates: float = threshold(1e-4, "bound of the alarm", "Karpathy, CS231n")
    large_updates: float = threshold(1e-2, "bound of the alarm", "Karpathy, CS231n")
    dead_units: float = threshold(0.5, "bound of the alarm", "more than half")
    saturated_units: float = threshold(0.5, "bound of the alarm", "more than half")
    zero_gradients: float = threshold(0.7, "bound of the alarm", f"{AUTOTRAINER}: dying ReLU")
    variance_ratio: float = threshold(
        100.0, "bound of the alarm, and its reciprocal", "Glorot and Bengio 2010, eq. 8, ask for 1"
    )
    initial_loss: float = threshold(
        3.0, "bound of the alarm", "Karpathy, CS231n, asks for 1; He's weights reach 2.4 here"
    )

    @property
    def is_absolute(self) -> bool:
        """Whether a signal has to be small in itself, and not only compared, to vanish."""
        return self.first_layer < ANY

    @classmethod
    def of(cls, study: Study) -> Thresholds:
        """Return the thresholds that a study's key `diagnosis` sets; of others the defaults."""
        given = study.definition.get("content", {}).get("diagnosis", "standard")
        return PRESETS[given] if isinstance(given, str) else cls(**_floats(given))


def _floats(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value if key == "compares" else float(value) for key, value in given.items()}


PRESETS: dict[str, Thresholds] = {
    "standard": Thresholds(),
    "autotrainer": Thresholds(
        compares="weight_gradients",
        vanishing=1e-3,
        first_layer=1e-4,
        exploding=70.0,
        zero_gradients=0.7,
    ),
}
