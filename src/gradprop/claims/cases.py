"""Cases: the parts of a claim that get a verdict each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, init=False)
class Case:
    """Which networks, or which part of a claim, a piece of evidence is about.

    Parameters
    ----------
    text
        For readers; may be reworded. Without it, the parameters: a text as it is, a number after
        its name (``tanh, depth 20``).
    parameters
        What tells the case from the others of the claim.

    Attributes
    ----------
    id
        By which the verdict is listed, unique among the cases of the claim: the parameters
        (``activation=tanh,depth=20``), or the text where there are none.
    """

    id: str
    text: str

    def __init__(self, text: str = "", /, **parameters: object) -> None:
        values = {name: _written(value) for name, value in parameters.items()}
        alone = [
            value if isinstance(parameters[name], str) else f"{name} {value}"
            for name, value in values.items()
        ]
        key = ",".join(f"{name}={value}" for name, value in values.items()) or text
        object.__setattr__(self, "id", key.replace(", ", ",").replace(" ", "_"))
        object.__setattr__(self, "text", text or ", ".join(alone))

    def __str__(self) -> str:
        """Return the text."""
        return self.text


def _written(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
