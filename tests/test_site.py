"""The documentation site builds without a warning, and its commands and code do what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.workspace import ROOT

PAGES = [
    *("tutorial", "how-to/figures", "how-to/tables", "how-to/failures", "how-to/data"),
    *("how-to/components", "how-to/network", "how-to/advise", "how-to/keras"),
]
# What a shell does for a reader who stands in the project's folder, with its environment active.
SHELL = f"""
set -e
snakemake() {{ "{sys.executable}" -m snakemake --snakefile "{ROOT}/Snakefile" "$@"; }}
gradprop() {{ "{sys.executable}" -m gradprop.cli "$@"; }}
"""


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    result = subprocess.run(
        [*command, "-d", tmp_path / "doctrees", ROOT / "docs", tmp_path / "site"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    pages = [path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html")]
    assert len(pages) > len(PAGES)
    for page in pages:  # nothing is loaded from elsewhere
        assert not re.search(r"""<(script|link|img)[^>]* (src|href)=["']https?:""", page)
    concepts = (tmp_path / "site/concepts.html").read_text(encoding="utf-8")
    assert "<math" in concepts
    assert r"\varphi" not in concepts  # the formula, and not its text beside it
    # The notebook ran, and shows a diagnosis, a report and a comparison.
    notebook = (tmp_path / "site/_generated/mend.html").read_text(encoding="utf-8")
    for shown in (
        "The network is vanishing",
        "srcdoc=",
        "gain 1.414, which relu needs",
        "B “healthy”",
    ):
        assert shown in notebook
    assert (tmp_path / "site/_downloads").exists()


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """Yield language, caption and content of the code blocks of a page."""
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    for token in MarkdownIt().parse(text):
        if token.type == "fence":
            named = re.match(r":caption: (.*)\n\n", token.content)
            language = token.info.removeprefix("{code-block} ")
            yield language, named[1] if named else "", token.content[named.end() if named else 0 :]


def run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/src"}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{command[-1]}\n{result.stdout}\n{result.stderr}"


def do(language: str, caption: str, content: str, folder: Path) -> None:
    """Do what a reader would do with a block."""
    if caption:
        path = folder / caption.removeprefix("at the end of ")
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if caption.startswith("at the end of ") else ""
        path.write_text(before + content)
    elif language == "console":
        lines = [line.removeprefix("$ ") for line in content.splitlines()]
        run(["bash", "-c", "\n".join([SHELL, *lines])], folder)
    else:
        assert language == "python"
        run([sys.executable, "-c", content], folder)


@pytest.mark.long
@pytest.mark.workflow
def test_every_block_of_the_pages_can_be_typed(tmp_path: Path) -> None:
    for page in PAGES:
        for language, caption, content in blocks(page):
            do(language, caption, content, tmp_path)
    claims = json.loads((tmp_path / "reports/claims/mine.json").read_text())
    assert {claim["id"]: claim["verdict"] for claim in claims} == {
        "small-weights-vanish": "supported",
        "glorot-keeps-the-signal": "supported",
    }
    assert (tmp_path / "reports/figures/mine/signal-6.75in.pdf").exists()
    assert (tmp_path / "reports/figures/trees/gradients.svg").exists()
    assert (tmp_path / "reports/figures/own/signal.svg").exists()
    assert (tmp_path / "reports/figures/images/signal.svg").exists()
    assert (tmp_path / "probe.html").exists()
