"""With `--sdm conda` the steps run in the environment that Snakemake has conda make.

No conda is needed: a stand-in answers what Snakemake asks of it, and makes an environment with the
packages of this one, in which a file tells what its Python ran.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.workspace import ROOT, Workspace, small

CONDA = """#!{python}
import json, sys
from pathlib import Path

sys.path[:0] = ["{project}", "{project}/src"]
from tests.workspace import environment_in

arguments = sys.argv[1:]
if arguments == ["--version"]:
    print("conda 25.1.1")
elif arguments[0] == "info":
    print(json.dumps({{"conda_prefix": "{folder}", "platform": "linux-64"}}))
elif arguments[0] == "config":
    print(json.dumps({{"get": {{"channel_priority": "strict"}}}}))
elif arguments[0] != "clean":
    assert arguments[:2] == ["env", "create"], arguments
    prefix = Path(arguments[arguments.index("--prefix") + 1])
    python = environment_in(prefix)
    (packages,) = prefix.glob("lib/python*/site-packages")
    (packages / "tell.pth").write_text(
        "import sys; open({told!r}, 'a').write(' '.join(sys.orig_argv[3:5]) + chr(10))\\n"
    )
"""
ACTIVATE = """export PATH="$1/bin:$PATH"\n"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file in which the environment of conda tells what it ran."""
    folder, told = tmp_path / "conda", tmp_path / "told"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/activate").write_text(ACTIVATE)
    conda = CONDA.format(python=sys.executable, project=ROOT, folder=folder, told=str(told))
    (folder / "bin/conda").write_text(conda)
    (folder / "bin/conda").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")
    return told


@pytest.mark.long
@pytest.mark.workflow
def test_every_step_runs_in_the_environment(told: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "work")
    workspace.write_study(small(initializer="he_normal"))
    workspace.build("all", "verify", "--sdm", "conda")
    steps = {line.split()[-1] for line in told.read_text().splitlines()}
    assert steps >= {"define", "data", "train", "figures", "claims", "report", "verify"}
    told.unlink()  # and never without the option
    workspace.write_study(small(initializer="zeros"))
    workspace.build()
    assert not told.exists()
