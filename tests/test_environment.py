"""pyproject.toml, requirements.lock and environment.yml describe the same environment."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.workspace import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CONDA: dict[str, Any] = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
LOCK = (ROOT / "requirements.lock").read_text("utf-8")

# Every platform and Python for which the lock file has to be complete.
PLATFORMS = [
    {
        "python_version": python,
        "python_full_version": f"{python}.4",
        "sys_platform": system,
        "platform_machine": machine,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    for python in ("3.11", "3.12", "3.13")
    for system, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))
]


@dataclass(frozen=True)
class Pin:
    """One entry of the lock file."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def version(self) -> Version:
        (specifier,) = self.requirement.specifier
        assert specifier.operator == "=="
        return Version(specifier.version)


def parse_requirements(lines: Sequence[str]) -> dict[str, Requirement]:
    """Return requirements by canonical name, each allowed once."""
    parsed = [Requirement(line) for line in lines]
    by_name = {canonicalize_name(requirement.name): requirement for requirement in parsed}
    assert len(by_name) == len(parsed), "a dependency is listed twice"
    return {str(name): requirement for name, requirement in by_name.items()}


def parse_lock(text: str) -> dict[str, Pin]:
    """Return the pins of a lock file by canonical name; every line has to be understood."""
    pins: dict[str, Pin] = {}
    for entry in re.sub(r"\\\n", " ", text).splitlines():
        line = entry.strip()
        if not line or line.startswith("#"):
            continue
        requirement, *hashes = re.split(r"\s+--hash=", line)
        parsed = Requirement(requirement)
        name = canonicalize_name(parsed.name)
        assert name not in pins, f"{name} is pinned twice"
        pins[name] = Pin(parsed, tuple(hashes))
    return pins


def lock_problems(
    requirements: Mapping[str, Requirement], pins: Mapping[str, Pin], text: str
) -> list[str]:
    """Return what is wrong with a lock file as the lock of `requirements`."""
    problems = []
    for name, requirement in requirements.items():
        pin = pins.get(name)
        if pin is None:
            problems.append(f"{name}: not in the lock")
            continue
        if pin.version not in requirement.specifier:
            problems.append(f"{name}: {pin.version} is outside {requirement.specifier}")
        marker = pin.requirement.marker
        if marker is not None and not all(marker.evaluate(platform) for platform in PLATFORMS):
            problems.append(f"{name}: not for every platform")
    for name, pin in pins.items():
        if not pin.hashes or not all(re.fullmatch("sha256:[0-9a-f]{64}", h) for h in pin.hashes):
            problems.append(f"{name}: without sha256 hashes")
    if re.search(r"://|^\s*-(?!-hash)|\bfile:|@\s", text, flags=re.MULTILINE):
        problems.append("an address or an option in the lock")
    return problems


def conda_problems(project: Mapping[str, Any], conda: Mapping[str, Any]) -> list[str]:
    """Return in what a conda environment differs from pyproject.toml's `project` table."""
    plain = [entry for entry in conda["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict)]
    problems = []
    if conda["name"] != project["name"]:
        problems.append("another name")
    if "pip" not in plain or "-e ." not in pip:
        problems.append("does not install the package")
    found = parse_requirements([e for e in [*plain, *pip] if e not in ("pip", "-e .")])
    python = found.pop("python", None)
    if python is None or python.specifier != SpecifierSet(project["requires-python"]):
        problems.append("another range of Python")
    wanted = parse_requirements(project["dependencies"])
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found or name not in wanted:
            problems.append(f"{name}: in one file only")
        elif wanted[name].specifier != found[name].specifier:
            problems.append(f"{name}: {wanted[name].specifier} or {found[name].specifier}?")
    return problems


@pytest.fixture
def requirements() -> dict[str, Requirement]:
    """Return every dependency of pyproject.toml, those of its extras and of the build included."""
    project = PROJECT["project"]
    extras = project["optional-dependencies"].values()
    declared = parse_requirements([*project["dependencies"], *chain.from_iterable(extras)])
    for name, requirement in parse_requirements(PROJECT["build-system"]["requires"]).items():
        # Built without isolation: the lock has to bring the backend along.
        assert declared[name].specifier == requirement.specifier
    return declared


def test_every_dependency_has_a_bound(requirements: dict[str, Requirement]) -> None:
    assert [name for name, r in requirements.items() if not r.specifier] == []


def test_lock_fits_pyproject(requirements: dict[str, Requirement]) -> None:
    assert lock_problems(requirements, parse_lock(LOCK), LOCK) == []


def test_lock_names_the_command_that_makes_it() -> None:
    comments = LOCK.split("\n\n")[0].splitlines()[:2]
    assert "make lock" in " ".join(comments)


def test_conda_environment_fits_pyproject() -> None:
    assert conda_problems(PROJECT["project"], CONDA) == []


def test_environment_of_the_rules_is_the_same_without_the_package() -> None:
    rules = yaml.safe_load((ROOT / "workflow/envs/gradprop.yaml").read_text("utf-8"))
    *conda, pip = CONDA["dependencies"]
    assert rules["channels"] == CONDA["channels"]
    assert rules["dependencies"] == [*conda, {"pip": [d for d in pip["pip"] if d != "-e ."]}]


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]


def test_tools_know_the_oldest_python() -> None:
    oldest = min(
        Version(s.version)
        for s in SpecifierSet(PROJECT["project"]["requires-python"])
        if s.operator == ">="
    )
    assert PROJECT["tool"]["mypy"]["python_version"] == str(oldest)
    assert min(str(p["python_version"]) for p in PLATFORMS) == str(oldest)


def test_continuous_integration_has_every_python() -> None:
    text = (ROOT / ".github/workflows/tests.yml").read_text("utf-8")
    job = yaml.safe_load(text)["jobs"]["test"]
    pythons = list(dict.fromkeys(platform["python_version"] for platform in PLATFORMS))
    assert job["strategy"]["matrix"]["python"] == pythons
    actions = [step["uses"] for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in actions)
    assert job["steps"][-1]["run"].startswith("make test ")


def test_the_catalog_says_how_rules_get_their_software() -> None:
    """By conda alone, in an environment that the workflow brings along."""
    text = (ROOT / ".snakemake-workflow-catalog.yml").read_text("utf-8")
    ways = yaml.safe_load(text)["usage"]["software-stack-deployment"]
    assert [way for way, works in ways.items() if works] == ["conda"]
    rules = [path.read_text("utf-8") for path in (ROOT / "workflow/rules").glob("*.smk")]
    assert any("conda:" in rule for rule in rules)
    assert not any("container:" in rule for rule in rules)


GOOD = "six==1.17.0 ; sys_platform != 'win32' \\\n    --hash=sha256:" + "0" * 64 + "\n    # via x\n"


@pytest.mark.parametrize(
    ("lock", "problem"),
    [
        ("", "not in the lock"),
        (GOOD.replace("1.17.0", "1.15.0"), "outside"),
        (GOOD.replace("!= 'win32'", "== 'linux'"), "not for every platform"),
        (GOOD.replace("sys_platform != 'win32'", "python_version < '3.13'"), "not for every"),
        (GOOD.replace("sha256:0", "sha256:"), "without sha256"),
        (GOOD.replace("sha256:", "md5:"), "without sha256"),
        ("six==1.17.0\n", "without sha256"),
        ("# --index-url https://host.invalid/simple\n" + GOOD, "an address"),
    ],
)
def test_a_wrong_lock_is_seen(lock: str, problem: str) -> None:
    wanted = parse_requirements(["six>=1.16,<2"])
    assert lock_problems(wanted, parse_lock(GOOD), GOOD) == []
    (found,) = lock_problems(wanted, parse_lock(lock), lock)
    assert problem in found


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("- six>=1.16,<2", "- six>=1.16", "six: "),
        ("- six>=1.16,<2", "- six>=1.16,<2\n- numpy", "numpy: in one file only"),
        ("- six>=1.16,<2", "- pyyaml", "in one file only"),
        ("<3.14", "<3.13", "another range of Python"),
        ("  - -e .", "  - wheel", "does not install"),
        ("name: x", "name: y", "another name"),
    ],
)
def test_a_wrong_conda_environment_is_seen(old: str, new: str, problem: str) -> None:
    project = {"name": "x", "requires-python": ">=3.11,<3.14", "dependencies": ["six<2,>=1.16"]}
    text = "\n".join(
        [
            "name: x",
            "dependencies:",
            "- python>=3.11,<3.14",
            "- pip",
            "- six>=1.16,<2",
            "- pip:",
            "  - -e .",
        ]
    )
    assert conda_problems(project, yaml.safe_load(text)) == []
    assert old in text
    assert problem in " ".join(conda_problems(project, yaml.safe_load(text.replace(old, new))))


def test_the_processes_of_a_test_run_share_groups_of_tests(request: pytest.FixtureRequest) -> None:
    """Or they would all build the same fixtures and compile the same programs."""
    if hasattr(request.config, "workerinput"):
        assert request.node.nodeid.endswith("@test_environment")
