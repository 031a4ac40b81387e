"""The steps of the workflow, run by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradprop.cli import main

pytestmark = pytest.mark.usefixtures("shared_process")

SHARD = "circles_examples_40-width3-depth0to32"
CONTENT = {
    "title": "T",
    "question": "Q?",
    "grid": {
        "dataset": {"name": "circles", "examples": 40},
        "depth": 1,
        "width": 3,
        "activation": "tanh",
        "initializer": ["he_normal", "zeros"],
        "learning_rate": 0.1,
        "batch_size": 8,
        "epochs": 1,
    },
    "figures": {
        "loss": {
            "kind": "learning_curves",
            "title": "L",
            "statistic": "train_loss",
            "hue": "initializer",
        }
    },
}


def test_all_steps_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    definition = json.dumps({"name": "small", "content": CONTENT, "seeds": 1})
    study, data = tmp_path / "results/small/study.json", tmp_path / "results/data/circles.npz"
    reports = tmp_path / "reports"
    assert main(["define", definition, str(study)]) == 0
    assert main(["data", "circles(examples=40)", str(data)]) == 0
    assert main(["train", str(study), SHARD, str(data)]) == 0
    assert main(["figures", str(study), "--reports", str(reports)]) == 0
    assert main(["claims", str(study), str(reports / "claims/small.json")]) == 0
    assert main(["report", str(study), "--reports", str(reports), "--title", "By hand"]) == 0
    assert "<h1>By hand</h1>" in (reports / "index.html").read_text(encoding="utf-8")
    assert "2 cells done" in capsys.readouterr().err


def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    definition = json.dumps({"name": "small", "content": CONTENT, "seeds": 1})
    study = tmp_path / "results/small/study.json"
    main(["define", definition, str(study)])
    assert main(["report", str(study), "--reports", str(tmp_path / "reports")]) == 1
    assert capsys.readouterr().err.startswith("gradprop: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["define", "{", "out.json"], "define: the definition is not valid JSON"),
        (["data", "nosuch", "out.npz"], "'nosuch' is not allowed; allowed: digits"),
        (["data", "circles(", "out.npz"], "not a component's label"),
        (["data", "circles(nois=0.1)", "out.npz"], "Did you mean 'noise'?"),
        (["data", "circles(examples=abc)", "out.npz"], "circles: examples: 'abc' is"),
        (["data", "circles(examples=2.5)", "out.npz"], "circles: examples: 2.5 is"),
        (["data", "circles(noise=-1.0)", "out.npz"], "circles(noise=-1.0): The 'noise' parameter"),
        (["claims", "none.json", "out.json"], "none.json: no such file"),
        (["claims", "list.json", "out.json"], "list.json: not an object"),
        (["claims", "empty.json", "out.json"], "empty.json: not the definition of a study"),
        (["train", "study.json", "circles", "none.npz"], "shard: 'circles' is not allowed"),
        (["train", "study.json", SHARD, "none.npz"], "none.npz: No such file or directory"),
    ],
)
def test_mistakes_are_explained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["define", json.dumps({"name": "small", "content": CONTENT, "seeds": 1}), "study.json"])
    Path("list.json").write_text("[]")
    Path("empty.json").write_text("{}")
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


MISUSED = {
    "gradprop: the following arguments are required: command": [],
    "gradprop: argument command: invalid choice: 'trian'": ["trian"],
    "gradprop train: argument --threads: 0 is not a whole number from 1 to 1024": [
        *("train", "g.json", "s", "d.npz", "--threads", "0")
    ],
    "gradprop train: argument --threads: x is not": ["train", "g", "s", "d", "--threads", "x"],
    "gradprop train: argument --stack-size: -1 is not": [
        *("train", "g", "s", "d", "--stack-size=-1")
    ],
    "gradprop figures: argument --processes: 0 is not": ["figures", "s", "--processes", "0"],
    "gradprop: unrecognized arguments: --x": ["figures", "s", "--x"],
    "gradprop report: argument --name: 'a/b.html' is not the name": [
        *("report", "s", "--name", "a/b.html")
    ],
    "gradprop report: argument --title: '\\udcff' has the character U+DCFF": [
        *("report", "s", "--title", "\udcff")
    ],
    "gradprop claims: argument output: '/dev/full' is not the name of a file to write": [
        *("claims", "s", "/dev/full")
    ],
    "gradprop claims: argument output: '.' is not the name of a file to write": [
        *("claims", "s", ".")
    ],
    f"gradprop claims: argument study: '{'Q' * 59}... is not": ["claims", "Q" * 3000, "out.json"],
    f"gradprop: argument command: invalid choice: '{'Q' * 100}": ["Q" * 3000],
}


@pytest.mark.parametrize("message", MISUSED)
def test_a_misused_command_says_so_in_one_line(
    message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(MISUSED[message])
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(message)
    assert len(said.err.splitlines()) == 1
    assert said.err.count("Q") <= 200


JUNK = {
    "empty": b"",
    "binary": bytes(range(256)),
    "zip": b"PK\x03\x04junk",
    "deep": b"[" * 100_000,
    "keys": b'{"name": "s", "content": {}, "seeds": 1}',
    "types": b'{"name": "s", "content": {"grid": 3, "title": 1, "question": 2}, "seeds": 1}',
}


@pytest.mark.parametrize("name", [*JUNK, "folder", "loop", "missing", "empty/file"])
@pytest.mark.parametrize(
    "command",
    [
        ["train", "?", SHARD, "data.npz"],
        ["train", "study.json", SHARD, "?"],
        ["figures", "?"],
        ["claims", "?", "out.json"],
        ["verify", "?", "--listed", "list.json"],
        ["report", "?"],
        ["report", "study.json", "--reports", "empty"],
        ["data", "digits", "empty/out.npz"],
    ],
)
def test_a_file_that_is_something_else_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    command: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for file, content in JUNK.items():
        Path(file).write_bytes(content)
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    main(["define", json.dumps({"name": "small", "content": CONTENT, "seeds": 1}), "study.json"])
    if command[:3] == ["train", "study.json", SHARD] and name in ("missing", "loop"):
        pytest.skip("told by another test")
    assert main([name if part == "?" else part for part in command]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("[")]
    assert len(lines) == 1
    assert lines[0].startswith("gradprop: ")


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("null", "define: the definition: the file is empty"),
        ("[1]", "define: the definition: [1] is not a mapping"),
        ("{}", "define: the definition: missing key: name, content, seeds"),
        ("[" * 100_000, "define: the definition is not valid JSON: maximum recursion depth"),
        ('{"name": "\\ud800", "content": {}, "seeds": 1}', "has the character U+D800"),
    ],
)
def test_a_definition_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], definition: str, message: str
) -> None:
    assert main(["define", definition, str(tmp_path / "out.json")]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (MemoryError(), 1, "gradprop: not enough memory\n"),
        (KeyboardInterrupt(), 130, "gradprop: interrupted\n"),
        (IsADirectoryError(21, "Is a directory", "x" * 3000), 1, "gradprop: "),
    ],
)
def test_what_ends_a_command(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    said: str,
) -> None:
    def fail(options: object) -> None:
        raise error

    monkeypatch.setattr("gradprop.cli.draw_figures", fail)
    assert main(["figures", "study.json"]) == status
    text = capsys.readouterr().err
    assert text.startswith(said)
    assert text.count("x") <= 200


def test_a_closed_pipe_is_silent() -> None:
    code = "import gradprop.cli as c; c.verify_claims = lambda o: print('x' * 10); "
    code += "import sys; sys.exit(c.main(['verify', 'a', '--listed', 'b']))"
    end, start = os.pipe()
    os.close(end)
    found = subprocess.run(
        [sys.executable, "-c", code], stdout=start, stderr=subprocess.PIPE, check=False
    )
    os.close(start)
    assert (found.returncode, found.stderr) == (141, b"")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    assert "gradprop" in capsys.readouterr().out or arguments == ["--version"]
