"""What stands beside a figure, for the report and for Snakemake's own."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

from docutils.core import publish_parts
from jinja2 import Environment

from gradprop.figures import sidecar
from gradprop.figures.drawing import paths_of
from tests.report_example import make_study

HOSTILE = (
    "`a` *b* **c** |d| e_ __f__ {{ 1 + 1 }} {% raw %} {# g #} :math:`h` \\ <i> & [1]_ - \N{EN DASH}"
)


def test_facts_are_those_of_the_networks_that_are_drawn() -> None:
    study = make_study(depths=(2, 5, 9))
    profile = {"kind": "layer_profile", "statistic": ["signal_log10_rms", "dead_fraction"]}
    assert sidecar.facts(study, profile) == {
        "quantity": "RMS of dC/dz, dead fraction",
        "data set": "digits",
        "depth": "2 to 9",
    }
    selected = {"kind": "phase_diagram", "select": {"depth": 5}}
    assert sidecar.facts(study, selected) == {
        "quantity": "phase diagram",
        "data set": "digits",
        "depth": "5",
    }


def test_no_sign_of_a_text_means_anything_to_snakemake(tmp_path: Path) -> None:
    """It renders the caption as a template of Jinja and then as RST."""
    paths = paths_of(tmp_path, "example", "small")
    texts = {"title": HOSTILE, "caption": f"1. {HOSTILE}", "alt": f"- {HOSTILE}\n\n::\n\n  x"}
    sidecar.write(paths, texts, {"depth": HOSTILE})
    assert json.loads(paths["json"].read_text()) == {**texts, "facts": {"depth": HOSTILE}}
    template = Environment(trim_blocks=True, lstrip_blocks=True).from_string(
        paths["rst"].read_text()
    )
    body = publish_parts(template.render(), writer="html")["body"]
    found = [html.unescape(re.sub("<.*?>", "", p)) for p in re.findall("<p>(.*?)</p>", body, re.S)]
    shown = [" ".join(text.split()) for text in texts.values()]
    assert found == [*shown, "The plotted numbers: data/example/small.csv"]
