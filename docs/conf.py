"""The documentation site: `make docs` builds it into docs/_build/html."""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from gradprop import cli
from gradprop.grid.config import read_yaml
from gradprop.report.formulas import mathml

HERE = Path(__file__).parent
REPORTS = HERE.parent / "reports"

project = "gradprop"
author = "the authors of gradprop"
release = metadata.version("gradprop")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "README.md"]

html_math_renderer = "mathml"
html_theme = "furo"
html_title = "gradprop"
html_show_copyright = False
# The reports as built, if they are: `report/index.html` and `report/papers.html`.
html_extra_path = ["_extra"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
napoleon_google_docstring = False
autodoc_typehints = "description"
autodoc_member_order = "bysource"
# Links of included files to files that are no pages, and names of types in docstrings' prose.
suppress_warnings = ["myst.xref_missing"]


def _command_line() -> str:
    """Return what `--help` says of every command."""
    parser = cli.make_parser()
    parts = [f"# Command line\n\n```text\n{parser.format_help()}```\n"]
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        parts.append(f"## gradprop {name}\n\n```text\n{command.format_help()}```\n")
    return "\n".join(parts)


def _gallery() -> str:
    """Return every figure of the reports that are built, with its title and caption."""
    parts = ["# Gallery\n\nThe figures of the reports as they were built, study by study.\n"]
    files = [HERE.parent / "config" / name for name in ("config.yaml", "papers.yaml")]
    order = [study for file in files for study in read_yaml(file)["studies"]]
    studies = {path.name: path for path in sorted(REPORTS.glob("data/*"))}
    for study in (studies[name] for name in dict.fromkeys([*order, *studies]) if name in studies):
        # A chapter's figures stand in the order of its study's file, and it has that one's title.
        file = HERE.parent / "config/studies" / study.name / "study.yaml"
        content = read_yaml(file) if file.exists() else {"title": study.name, "figures": {}}
        parts.append(f"## {content['title']}\n")
        found = {text.stem: text for text in sorted(study.glob("*.json"))}
        names = [name for name in content["figures"] if name in found]
        for name in dict.fromkeys([*names, *found]):
            told = json.loads(found[name].read_text())
            picture = REPORTS / "figures" / study.name / f"{name}.svg"
            target = HERE / "_extra/gallery" / f"{study.name}-{name}.svg"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(picture.read_bytes())
            parts += [
                f":::{{figure}} ../_extra/gallery/{target.name}",
                f":alt: {' '.join(told['alt'].split())}\n",
                f"**{told['title'].rstrip('.')}.** {told['caption']}\n:::\n",
            ]
    if len(parts) == 1:
        parts.append("There are none: `snakemake --cores 4`, then `make docs`.")
    return "\n".join(parts)


def _notebook(path: Path) -> str:
    """Run a notebook, as a kernel would, and return its cells with what they show.

    A kernel of its own would need two dozen packages more. A cell that fails ends the build.
    """
    name = path.relative_to(HERE).as_posix()
    parts, names = [], {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                parts.append(source)
            else:
                parts += [f"```python\n{source}\n```", *_shown(source, names)]
    parts.insert(1, f"This page is the notebook {{download}}`{path.name} <../{name}>` as it ran.")
    return "\n\n".join(parts)


def _shown(source: str, names: dict[str, Any]) -> Iterator[str]:
    """Run a cell; yield what it prints and the value of the expression that it ends with."""
    *statements, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        statements.append(last)
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(statements, []), "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    if printed.getvalue():
        yield f"```text\n{printed.getvalue()}```"
    if hasattr(value, "_repr_html_"):
        yield f"``````{{raw}} html\n{value._repr_html_()}\n``````"
    elif value is not None:
        yield f"```text\n{value!r}\n```"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


_write(HERE / "_generated/command-line.md", _command_line())
_write(HERE / "_generated/gallery.md", _gallery())
_write(HERE / "_generated/mend.md", _notebook(HERE / "notebooks/mend.ipynb"))
for report in REPORTS.glob("*.html"):
    _write(HERE / "_extra/report" / report.name, report.read_text())
(HERE / "_extra").mkdir(exist_ok=True)


def _inline_formula(writer: Any, node: Any) -> None:
    writer.body.append(mathml(node.astext()))
    raise nodes.SkipNode  # its text is the formula in TeX


def _formula(writer: Any, node: Any) -> None:
    writer.body.append(f"<p>{mathml(node.astext(), display=True)}</p>")
    raise nodes.SkipNode


def _done(writer: Any, node: Any) -> None:
    pass


def setup(app: Sphinx) -> None:
    """Write formulas as MathML, as the report does: no page loads anything from elsewhere."""
    app.add_html_math_renderer("mathml", (_inline_formula, _done), (_formula, _done))
