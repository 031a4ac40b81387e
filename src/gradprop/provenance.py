"""Where results come from: the code that determines them, package versions, machine, commit."""

from __future__ import annotations

import ast
import hashlib
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

PACKAGE = Path(__file__).parent

# The modules that numbers depend on: all that training imports, at once or late. Rules
# list them as inputs; a test compares them with what is really imported.
NUMERIC_MODULES = (
    "activations",
    "architecture",
    "datasets",
    "errors",
    "files",
    "gains",
    "histograms",
    "initializers",
    "measurements",
    "networks",
    "normalization",
    "optimizers",
    "recording",
    "spec",
    "spectra",
    "stacking",
    "statistics",
    "stopwatch",
    "training",
    "trajectories",
)

# The modules behind figures, claims and report: an edit of one makes anew what it can change. Those
# above are left out, because their edits reach these steps through the tables.
FIGURE_MODULES = ("analysis", "figures", "grid", "minibatch", "prediction", "tables", "theory")
CLAIM_MODULES = (*FIGURE_MODULES, "claims", "diagnosis", "studies")
REPORT_MODULES = (
    "analysis",
    "claims",
    "diagnosis",
    "provenance",
    "report",
    "studies",
    "tables",
    "templates",
    "templates/studies",
)

PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "scikit-learn", "pandas", "seaborn")


def module_paths(names: tuple[str, ...]) -> list[str]:
    """Return the files of modules of this package; of a sub-package all of them."""
    return [
        str(path)
        for name in names
        for path in sorted((PACKAGE / name).glob("*.*")) or [PACKAGE / f"{name}.py"]
    ]


def code_digest() -> str:
    """Return a hash of the modules that determine numbers, comments and docstrings left out."""
    total = hashlib.sha256()
    for path in map(Path, module_paths(NUMERIC_MODULES)):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        total.update(ast.dump(_without_docstrings(tree)).encode())
    return total.hexdigest()[:12]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers and figures depend on."""
    found = {name: version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


def processor() -> str:
    """Return the processor's name and its widest vector instructions, as far as known."""
    fields: dict[str, str] = {}
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = (line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        fields = {key.strip(): value.strip() for key, value in lines}
    name = fields.get("model name") or platform.processor() or platform.machine()
    flags = fields.get("flags", "").split()
    widest = next((flag for flag in ("avx512f", "avx2", "avx") if flag in flags), "")
    return " ".join(part for part in (name, platform.machine(), widest) if part)


def commit() -> str:
    """Return the commit of the checkout this package lies in, or '' if there is none."""
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip()
