"""Where results come from: the code that determines them, package versions, machine, commit."""

from __future__ import annotations

import ast
import hashlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

from threadpoolctl import threadpool_info  # scikit-learn requires it

PACKAGE = Path(__file__).parent

# What numbers depend on: all that training imports, at once or late, but for the words of errors.
# Manifests name them; a test compares them with what is really imported.
NUMERIC_MODULES = ("components", "files", "probes", "spec", "training")
# And what own networks depend on besides (`gradprop.components.network`).
NETWORK_MODULES = (*NUMERIC_MODULES, "monitor", "networks")

# What is behind figures, claims and report: an edit makes anew what it can change. Those above are
# left out, because their edits reach these steps through the tables.
ANALYSIS_MODULES = ("analysis", "grid", "prediction", "results", "theory")
FIGURE_MODULES = (*ANALYSIS_MODULES, "figures")
CLAIM_MODULES = (*ANALYSIS_MODULES, "claims", "studies")
REPORT_MODULES = (*CLAIM_MODULES, "provenance", "report", "report/templates")
DATASET_MODULES = ("components/datafiles", "components/datasets", "files", "spec")

# Instruction sets for which libraries have code of their own.
INSTRUCTIONS = (
    "avx",
    "fma",
    "avx2",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "asimd",
    "sve",
)

# Every module or package that a manifest may name.
MODULES = {*NETWORK_MODULES, *FIGURE_MODULES, *REPORT_MODULES, *DATASET_MODULES}

# The package as it was when this process began: an edit while a job runs is not what the job ran.
_CONTENT = {
    path: path.read_bytes()
    for path in sorted(PACKAGE.rglob("*.*"))
    if path.is_file() and "__pycache__" not in path.parts
}

PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "scikit-learn", "pandas", "seaborn")


def module_paths(names: Sequence[str]) -> list[str]:
    """Return the files of modules of this package; of a sub-package all of them."""
    return [
        str(path)
        for name in names
        for path in sorted((PACKAGE / name).glob("*.*")) or [PACKAGE / f"{name}.py"]
    ]


def _content(path: Path) -> bytes:
    return _CONTENT[path] if path in _CONTENT else path.read_bytes()


def sources_digest(names: Sequence[str]) -> str:
    """Return a hash of the files of modules as they are."""
    total = hashlib.sha256()
    for path in map(Path, module_paths(names)):
        content = _content(path)
        total.update(f"{path.name} {len(content)} ".encode() + content)
    return total.hexdigest()[:12]


def code_digest(names: Sequence[str] = NUMERIC_MODULES) -> str:
    """Return a hash of modules' code, comments and docstrings left out."""
    total = hashlib.sha256()
    for path in map(Path, module_paths(names)):
        total.update(_code(_content(path)))
    return total.hexdigest()[:12]


@cache
def _code(source: bytes) -> bytes:
    """Return the syntax tree of a module without its docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree).encode()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers and figures depend on."""
    found = {name: version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


def processor() -> str:
    """Return the processor's name, as far as known."""
    name = _cpuinfo().get("model name") or platform.processor()
    return " ".join(part for part in (name, platform.machine()) if part)


def instructions() -> str:
    """Return what chooses between implementations that round differently: the instruction sets.

    TensorFlow, oneDNN and NumPy compute the same operation with other code, and other last bits, on
    processors with wider registers.
    """
    flags = _cpuinfo().get("flags", "").split() or _cpuinfo().get("Features", "").split()
    known = [flag for flag in INSTRUCTIONS if flag in flags]
    return " ".join([platform.machine(), *known])


def linear_algebra() -> str:
    """Return the libraries for linear algebra that are loaded, with the kernels they chose."""
    found = threadpool_info()
    names = {f"{one['internal_api']} {one.get('architecture', '')}".strip() for one in found}
    return ", ".join(sorted(names - {"openmp"}))


@cache
def _cpuinfo() -> Mapping[str, str]:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return {}
    lines = (line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in lines}


def commit() -> str:
    """Return the commit of the checkout this package lies in, or '' if there is none."""
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip()
