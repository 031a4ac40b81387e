"""The steps of the workflow, run by hand."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from gradprop.cli import main, make_parser
from tests.workspace import ROOT

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


LISTED = str(ROOT / "reports/reference/claims.json")


def write_source(folder: Path) -> str:
    """Write the study's file; return its name."""
    path = folder / SOURCE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(CONTENT))
    return str(path)


SOURCE = "config/studies/small/study.yaml"
STUDY, DATA = "results/small/study.json", "results/data/circles.npz"
STEPS = {
    STUDY: ["define", SOURCE, STUDY, "--seeds", "1"],
    DATA: ["data", "circles(examples=40)", DATA],
    "results/small/stacks/": ["train", STUDY, SHARD, DATA],
    "reports/figures/small/loss.svg": ["figures", STUDY],
    "reports/claims/small.json": ["claims", STUDY],
    "reports/index.html": ["report", STUDY, "--title", "By hand"],
}

# Or they have nothing to do.
MISSING = {"train": "results/small/stacks", "figures": "results/small/drawings"}


@pytest.fixture
def built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Path:
    """Return the working directory, in which every step was run; `capsys` has what they said."""
    monkeypatch.chdir(tmp_path)
    write_source(tmp_path)
    assert [main(arguments) for arguments in STEPS.values()] == [0] * 6
    assert main(["verify", "reports/claims/small.json", "--listed", LISTED]) == 0
    return tmp_path


def test_all_steps_by_hand(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "<h1>By hand</h1>" in (built / "reports/index.html").read_text(encoding="utf-8")
    assert "2 cells done" in capsys.readouterr().err


@contextmanager
def full_disk() -> Iterator[None]:
    """Let nothing be written to a file; the reason is another than on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def hidden(folder: str | None) -> Iterator[None]:
    """Keep a folder out of the way."""
    if folder is None:
        yield
        return
    kept = Path(folder).rename("kept")
    yield
    shutil.rmtree(folder, ignore_errors=True)
    kept.rename(folder)


def files_in(folder: Path) -> set[Path]:
    """Return the files in a folder, but for the locks."""
    found = {path for path in folder.rglob("*") if path.is_file()}
    return {path for path in found if path.name != ".lock"}


def test_what_cannot_be_written_is_named_in_one_line_and_nothing_is_left(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, arguments in STEPS.items():
        with hidden(MISSING.get(arguments[0])):
            capsys.readouterr()
            before = files_in(built)
            with full_disk():
                assert main(arguments) == 1
            *_, said = capsys.readouterr().err.splitlines()
            assert said.startswith(f"gradprop: {path}")
            assert said.endswith(": File too large")
            assert files_in(built) == before


def test_an_error_of_training_that_names_no_file_names_the_study(
    built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "Error writing bytes to file")

    monkeypatch.setattr("gradprop.jobs.train_shard", fail)
    assert main(["train", STUDY, SHARD, DATA]) == 1
    assert capsys.readouterr().err.endswith("gradprop: results/small: No space left on device\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9 TiB"),
        ImportError("libsome.so.5: failed to map segment from shared object"),
        RuntimeError("OOM when allocating tensor of shape [9]\n\t [[node]]"),
    ],
)
def test_no_memory_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    write_source(tmp_path)
    main(STEPS[STUDY])
    monkeypatch.setattr("gradprop.report.page.write_report", fail)
    assert main(["report", STUDY]) == 1
    reason = str(error).partition("\n")[0]
    assert capsys.readouterr().err == f"gradprop: not enough memory. {reason}\n"


def test_other_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a mistake of the program")

    monkeypatch.chdir(tmp_path)
    write_source(tmp_path)
    monkeypatch.setattr("gradprop.files.write_text", fail)
    with pytest.raises(ValueError, match="of the program"):
        main(STEPS[STUDY])


def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "results/small/study.json"
    main(["define", write_source(tmp_path), str(study)])
    assert main(["report", str(study), "--reports", str(tmp_path / "reports")]) == 1
    assert capsys.readouterr().err.startswith("gradprop: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["define", "nosuch.yaml", "out.json"], "nosuch.yaml: no such file"),
        (["define", "list.json", "out.json"], "list.json: [] is not a mapping (key: value)"),
        (["define", SOURCE, "out.0123456789ab.json"], "study.yaml: changed since"),
        (["data", "nosuch", "out.npz"], "'nosuch' is not allowed; allowed: digits"),
        (["data", "circles(", "out.npz"], "not a component's label"),
        (["data", "circles(nois=0.1)", "out.npz"], "Did you mean 'noise'?"),
        (["data", "circles(examples=abc)", "out.npz"], "circles: examples: 'abc' is"),
        (["data", "circles(examples=2.5)", "out.npz"], "circles: examples: 2.5 is"),
        (
            ["data", "circles(noise=-1.0)", "out.npz"],
            "circles: noise: -1.0 is less than the minimum of 0",
        ),
        (["claims", "none.json"], "none.json: no such file"),
        (["claims", "list.json"], "list.json: not an object"),
        (["claims", "empty.json"], "empty.json: not the definition of a study"),
        (["claims", "study.0123456789ab.json"], "study.0123456789ab.json: damaged or edited"),
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
    main(["define", write_source(tmp_path), "study.json", "--seeds", "1"])
    Path("study.0123456789ab.json").write_text(Path("study.json").read_text())
    Path("list.json").write_text("[]")
    Path("empty.json").write_text("{}")
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


MISUSED = {
    "gradprop: the following arguments are required: command": [],
    "gradprop: argument command: invalid choice: 'trian'": ["trian"],
    "gradprop train: argument --stack-size: -1 is not": [
        *("train", "g", "s", "d", "--stack-size=-1")
    ],
    "gradprop figures: argument --width: 3.25 is no length from 2in to 40in, such as 3.25in": [
        *("figures", "s", "--figure", "loss", "--width", "3.25")
    ],
    "gradprop figures: argument --width: 1cm is no length": ["figures", "s", "--width", "1cm"],
    "gradprop figures: argument --format: invalid choice: 'eps'": [
        "figures",
        "s",
        "--format",
        "eps",
    ],
    "gradprop: unrecognized arguments: --x": ["figures", "s", "--x"],
    "gradprop report: argument --name: 'a/b.html' is not the name": [
        *("report", "s", "--name", "a/b.html")
    ],
    "gradprop report: argument --title: '\\udcff' has the character U+DCFF": [
        *("report", "s", "--title", "\udcff")
    ],
    "gradprop data: argument output: '/dev/full' is not the name of a file to write": [
        *("data", "digits", "/dev/full")
    ],
    "gradprop data: argument output: '.' is not the name of a file to write": [
        *("data", "digits", ".")
    ],
    f"gradprop claims: argument study: '{'Q' * 59}... is not": ["claims", "Q" * 3000],
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


@pytest.mark.parametrize(
    ("text", "inches"), [("3.25in", 3.25), ("8.255cm", 3.25), ("82.55mm", 3.25), ("10in", 10)]
)
def test_widths_are_lengths(text: str, inches: float) -> None:
    parsed = make_parser().parse_args(["figures", "s", "--figure", "loss", "--width", text])
    assert parsed.width == pytest.approx(inches)


def test_a_study_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert make_parser().parse_args(["figures", "small"]).study == Path("small")
    path = tmp_path / "results/small/study.0123456789ab.json"
    path.parent.mkdir(parents=True)
    path.touch()
    assert make_parser().parse_args(["figures", "small"]).study == path.relative_to(tmp_path)
    assert make_parser().parse_args(["figures", "a/small"]).study == Path("a/small")


def test_a_width_is_that_of_one_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradprop.grid.definitions.read_study", lambda *_: None)
    assert main(["figures", "study.json", "--width", "3in"]) == 1
    assert capsys.readouterr().err == (
        "gradprop: figures: --width and --format are those of one --figure\n"
    )


JUNK = {
    "empty": b"",
    "binary": bytes(range(256)),
    "zip": b"PK\x03\x04junk",
    "deep": b"[" * 100_000,
    "keys": b'{"name": "s", "content": {}, "seeds": 1}',
    "types": b'{"name": "s", "content": {"grid": 3, "title": 1, "question": 2}, "seeds": 1}',
}


READING = [
    ["train", "?", SHARD, "data.npz"],
    ["train", "study.json", SHARD, "?"],
    ["figures", "?"],
    ["claims", "?"],
    ["verify", "?", "--listed", "list.json"],
    ["report", "?"],
    ["report", "study.json", "--reports", "empty"],
    ["data", "digits", "empty/out.npz"],
]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        (name, command)
        for name in [*JUNK, "folder", "loop", "missing", "empty/file"]
        for command in READING
        if (command[1], name) not in [("study.json", "missing"), ("study.json", "loop")]
        or command[0] != "train"  # what it says of data that are not there has a test of its own
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
    main(["define", write_source(tmp_path), "study.json", "--seeds", "1"])
    assert main([name if part == "?" else part for part in command]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("[")]
    assert len(lines) == 1
    assert lines[0].startswith("gradprop: ")


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("null", "source.yaml: the file is empty"),
        ("[1]", "source.yaml: [1] is not a mapping"),
        ("[" * 100_000, "source.yaml: "),
        ('{"title": "\\ud800"}', "source.yaml: "),
    ],
)
def test_a_definition_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], definition: str, message: str
) -> None:
    source = tmp_path / "source.yaml"
    source.write_text(definition)
    assert main(["define", str(source), str(tmp_path / "out.json")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == [source]


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


def test_another_instruction_set_for_glibc_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX2")
    assert main(["plan"]) == 1
    said = capsys.readouterr().err
    assert said == "gradprop: GLIBC_TUNABLES: glibc.cpu changes numbers; unset it\n"
