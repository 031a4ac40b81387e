"""The `gradprop` command: every step of the workflow, to be run and debugged by hand."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from gradprop import __version__, errors, files, spec
from gradprop.errors import CodeError, GradpropError
from gradprop.grid import config
from gradprop.spec import Component
from gradprop.training import environment

# What other errors than MemoryError say where there is none: of loaders of libraries (glibc's),
# of pyarrow and Python where a thread gets no stack, and of TensorFlow.
NO_MEMORY = (
    "failed to map segment",
    "Cannot allocate memory",
    "Failed to launch worker thread",
    "can't start new thread",
    "OOM when allocating",
)

_LONGEST_MISTAKE = 200
NARROWEST, WIDEST = 2, 40  # inches, of a figure
INTERRUPTED, BROKEN_PIPE = 130, 141  # 128 and the signal's number, as shells have it


class _Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, without the usage of the command."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {errors.cut(message, _LONGEST_MISTAKE)}\n")


def _count(most: int) -> Callable[[str], int]:
    """Return the type of an argument that is a whole number from 1 to `most`."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = 0
        if not 1 <= number <= most:
            raise argparse.ArgumentTypeError(
                f"{errors.cut(text)} is not a whole number from 1 to {most}"
            )
        return number

    return parse


def _text(text: str) -> str:
    """Return an argument that becomes part of a file."""
    if code := errors.unprintable(text):
        raise argparse.ArgumentTypeError(f"{errors.show(text)} has the character {code}")
    return text


def _file_name(text: str) -> str:
    if Path(text).name != _text(text):
        raise argparse.ArgumentTypeError(f"{errors.show(text)} is not the name of a file")
    return text


def _path(text: str) -> Path:
    """Return a path whose parts may be names of files."""
    if any(len(part) > 255 for part in os.fsencode(text).split(b"/")) or "\0" in text:
        raise argparse.ArgumentTypeError(f"{errors.show(text)} is not the name of a file")
    return Path(text)


def _output(text: str) -> Path:
    """Return the path of a file to write; a device would be replaced by it."""
    path = _path(text)
    if not path.name or (path.exists() and not path.is_file()):
        raise argparse.ArgumentTypeError(f"{errors.show(text)} is not the name of a file to write")
    return path


def _definition(text: str) -> Path:
    """Return the file of a study's definition, which may be given by the study's name."""
    path = _path(text)
    found = [] if path.exists() else sorted((Path("results") / path.name).glob("study.*.json"))
    return found[0] if found and len(path.parts) == 1 else path


def _inches(text: str) -> float:
    """Return a length in inches."""
    found = re.fullmatch(r"(\d{1,4}(?:\.\d{1,4})?)(in|cm|mm)", text)
    inches = float(found[1]) / {"in": 1, "cm": 2.54, "mm": 25.4}[found[2]] if found else 0.0
    if not NARROWEST <= inches <= WIDEST:
        problem = f"{errors.cut(text)} is no length from {NARROWEST}in to {WIDEST}in"
        raise argparse.ArgumentTypeError(f"{problem}, such as 3.25in, 8.2cm or 82mm")
    return inches


_Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, with a command for every step."""
    parser = _Parser(prog="gradprop", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for add in (
        _add_define,
        _add_plan,
        _add_new_study,
        _add_data,
        _add_train,
        _add_figures,
        _add_claims,
        _add_verify,
        _add_report,
        _add_advise,
        _add_probe,
        _add_compare,
    ):
        add(commands)
    return parser


def _add_define(commands: _Commands) -> None:
    parser = commands.add_parser("define", help="write a study's definition")
    parser.add_argument("study", type=_path, help="config/studies/<study>/study.yaml")
    parser.add_argument("output", type=_output, help="results/<study>/study.json or grid.json")
    parser.add_argument(
        "--seeds", type=_count(2**63 - 1), default=5, help="of a grid without its own; default: 5"
    )
    parser.set_defaults(run=write_definition)


def write_definition(options: argparse.Namespace) -> None:
    """Write a study's definition."""
    from gradprop.grid import definitions

    definitions.write_definition(options.study, options.seeds, options.output)


def _add_folder(parser: argparse.ArgumentParser, several: bool = False) -> None:
    found = "default: found by name, in config/studies here and then in the project's"
    parser.add_argument(
        "--folders" if several else "--folder",
        dest="folder",
        type=_path,
        nargs="+" if several else None,
        help=f"config/studies/<study>{', one for each' if several else ''}; {found}",
    )


def _add_plan(commands: _Commands) -> None:
    parser = commands.add_parser("plan", help="say what a configuration needs; make nothing")
    parser.add_argument(
        "--configfile", type=Path, nargs="+", default=[], help="overrides config.yaml"
    )
    parser.add_argument(
        "--config", nargs="+", default=[], metavar="KEY=VALUE", help="overrides both"
    )
    parser.add_argument("--directory", type=Path, default=Path(), help="default: this one")
    parser.set_defaults(run=print_plan)


def print_plan(options: argparse.Namespace) -> None:
    """Print what every study needs."""
    from gradprop.grid import plan

    document, source = plan.read(options.configfile, options.config, options.directory)
    print(plan.table(plan.load(document, source, directory=options.directory)))


def _add_new_study(commands: _Commands) -> None:
    parser = commands.add_parser("new-study", help="write a small study to begin with")
    parser.add_argument("name", type=_file_name, help="of the study: lower-case letters, digits, _")
    parser.set_defaults(run=write_study)


def write_study(options: argparse.Namespace) -> None:
    """Write a study's folder and say how to run it."""
    from gradprop import studies
    from gradprop.grid import folders

    folder = studies.create(options.name)
    here = Path("Snakefile").exists()
    snakefile = "" if here else f"-s {shlex.quote(str(folders.PROJECT / 'Snakefile'))} "
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    config = f"--config 'studies=[{options.name}]'"
    print(f"What it needs: gradprop plan {config}")
    print(f"To run it: snakemake {snakefile}--cores 4 {config}")


def _add_data(commands: _Commands) -> None:
    parser = commands.add_parser("data", help="make a data set")
    parser.add_argument("dataset", help="its label: digits, circles(noise=0.1) ...")
    parser.add_argument("output", type=_output, help="results/data/<dataset>.npz")
    parser.add_argument("--folder", type=_path, help="of a study whose own data set it is")
    parser.set_defaults(run=write_data)


def write_data(options: argparse.Namespace) -> None:
    """Generate a data set."""
    from gradprop import jobs
    from gradprop.components import datasets
    from gradprop.components.datasets import DATASETS
    from gradprop.grid import folders, schema

    folders.load_components(options.folder)
    try:
        component = Component.parse(options.dataset)
    except ValueError as error:
        raise GradpropError(f"data: {errors.cut(options.dataset)}: {error}") from error
    if component.name not in DATASETS:
        raise errors.unknown("dataset", component.name, list(DATASETS), "data")
    entry = DATASETS[component.name]
    given = {  # a text that looks like a number is one in a label
        key: str(value) if isinstance(entry.defaults.get(key), str) else value
        for key, value in component.parameters
    }
    config.validate(given, schema.parameters_schema(entry), f"data: {component.name}")
    component = Component(component.name, tuple(given.items()))
    datasets.enter(component, options.folder)
    dataset = jobs.make_dataset(component, options.output)
    print(
        f"{options.dataset}: {len(dataset.x_train)} training and {len(dataset.x_test)} test "
        f"examples, sha256 {dataset.checksum[:12]}",
        file=sys.stderr,
    )


def _add_train(commands: _Commands) -> None:
    parser = commands.add_parser("train", help="train the missing cells of a shard")
    parser.add_argument("grid", type=_path, help="results/<study>/grid.json or study.json")
    parser.add_argument("shard", help="its name: <dataset>-width<n>-depth<n>to<n>")
    parser.add_argument("data", type=_path, help="results/data/<dataset>.npz")
    parser.add_argument(
        "--stack-size",
        type=_count(spec.LARGEST_INTEGER),
        default=40,
        help="most cells per stack; default: 40",
    )
    _add_folder(parser)
    parser.set_defaults(run=train_cells)


def train_cells(options: argparse.Namespace) -> None:
    """Train what a shard lacks."""
    from gradprop import jobs
    from gradprop.grid import definitions, sharding

    shards = sharding.shards(definitions.read_study(options.grid, options.folder).cells)
    if options.shard not in shards:
        raise errors.unknown("shard", options.shard, list(shards), str(options.grid))
    shard = shards[options.shard]
    folder = options.grid.parent
    with files.naming(folder):
        jobs.train_shard(shard, folder, options.data, options.stack_size)


def _add_figures(commands: _Commands) -> None:
    parser = commands.add_parser("figures", help="draw the figures of a study that changed")
    parser.add_argument("study", type=_definition, help="its name, or results/<study>/study.json")
    parser.add_argument("--reports", type=_path, default=Path("reports"), help="default: reports")
    parser.add_argument("--figure", metavar="NAME", help="draw this one alone, from the tables")
    parser.add_argument(
        "--width", type=_inches, help="of this one: 3.25in, 8.2cm; default: the report's"
    )
    parser.add_argument("--format", choices=("pdf", "svg", "png"), help="of it; default: pdf")
    _add_folder(parser)
    parser.set_defaults(run=draw_figures)


def draw_figures(options: argparse.Namespace) -> None:
    """Draw figures and write the plotted numbers."""
    from gradprop.figures import drawing
    from gradprop.grid import definitions

    study, results = definitions.read_study(options.study, options.folder), options.study.parent
    if options.figure is None:
        if options.width or options.format:
            raise GradpropError("figures: --width and --format are those of one --figure")
        drawing.draw_study(study, results, options.reports)
        return
    ending = options.format or "pdf"
    print(
        drawing.draw_alone(study, results, options.reports, options.figure, ending, options.width)
    )


def _add_claims(commands: _Commands) -> None:
    parser = commands.add_parser("claims", help="judge a study's claims and networks")
    parser.add_argument("study", type=_path, help="results/<study>/study.json")
    parser.add_argument("--reports", type=_path, default=Path("reports"), help="default: reports")
    _add_folder(parser)
    parser.set_defaults(run=judge_claims)


def judge_claims(options: argparse.Namespace) -> None:
    """Judge a study's claims and networks."""
    from gradprop import studies
    from gradprop.grid import definitions

    study = definitions.read_study(options.study, options.folder)
    studies.judge_study(study, options.study.parent, options.reports)


def _add_verify(commands: _Commands) -> None:
    parser = commands.add_parser("verify", help="compare verdicts with those listed as supported")
    parser.add_argument("claims", type=_path, nargs="+", help="reports/claims/<study>.json")
    parser.add_argument(
        "--listed", type=_output, required=True, help="reports/reference/claims.json"
    )
    parser.add_argument("--update", action="store_true", help="list these verdicts from now on")
    parser.set_defaults(run=verify_claims)


def verify_claims(options: argparse.Namespace) -> None:
    """Print all verdicts; fail if a claim listed as supported no longer is."""
    from gradprop import claims
    from gradprop.results import products

    for path in options.claims:
        products.require_claims(path)
    results = [result for path in options.claims for result in claims.read(path)]
    print(claims.text_table(results))
    for kind, check in (("claims", False), ("checks of the instrument", True)):
        numbers = claims.counts(results, check).items()
        print(f"{kind}:", ", ".join(f"{number} {verdict}" for verdict, number in numbers))
    listed = claims.read_listed(options.listed)
    studies = {path.stem for path in options.claims}
    if options.update:
        kept = {key: old for key, old in listed.items() if key.split("/")[0] not in studies}
        kept |= {result.key: result.verdict for result in results}
        files.write_text(options.listed, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    elif broken := claims.broken(results, listed, studies):
        raise claims.ClaimError("\n  ".join(["no longer supported:", *broken]))


def _add_report(commands: _Commands) -> None:
    parser = commands.add_parser("report", help="write the HTML report")
    parser.add_argument(
        "studies",
        type=_path,
        nargs="+",
        help="results/<study>/study.json, in order, or the folder of one gradprop.Monitor",
    )
    parser.add_argument(
        "-o", "--output", type=_output, help="of a monitor's run; default: <folder>.html"
    )
    parser.add_argument("--reports", type=_path, default=Path("reports"), help="default: reports")
    parser.add_argument(
        "--name", type=_file_name, default="index.html", help="its file; default: index.html"
    )
    parser.add_argument("--title", type=_text, default="gradprop", help="its heading")
    parser.add_argument(
        "--command",
        type=_text,
        default=errors.COMMAND,
        help="that builds it, for its last section",
    )
    _add_folder(parser, several=True)
    parser.set_defaults(run=write_html)


def write_html(options: argparse.Namespace) -> None:
    """Write the report on studies, or on the run of a monitor."""
    if any(path.is_dir() for path in options.studies):
        write_run(options.studies, options.output)
        return
    for path in options.studies:
        if path.suffix != ".json" and not path.exists():
            raise GradpropError(
                f"{errors.cut_path(str(path))}: no such file or folder; allowed: the folder of a "
                "gradprop.Monitor, or files results/<study>/study.json, which snakemake makes"
            )
    if options.output:
        raise GradpropError("report: --output is that of a monitor's run; of studies: --name")
    from gradprop.grid import definitions
    from gradprop.report import page

    folders = options.folder or [None] * len(options.studies)
    if len(folders) != len(options.studies):
        raise GradpropError(f"--folders: {len(folders)} for {len(options.studies)} studies")
    studies = [*map(definitions.read_study, options.studies, folders)]
    results = options.studies[0].parent.parent
    page.write_report(
        studies, results, options.reports, options.title, options.name, options.command
    )


def write_run(folders: Sequence[Path], output: Path | None) -> None:
    """Write the report on what a monitor recorded, and print the diagnosis."""
    from gradprop.inspection import Run, page

    if len(folders) > 1:
        raise GradpropError(
            f"report: {len(folders)} paths, of which one is a folder; allowed: one folder of a "
            "gradprop.Monitor, or files study.json (of two folders: gradprop compare)"
        )
    run = Run.read(folders[0])
    path = output or Path(f"{run.name}.html")
    print(run.diagnosis)
    page.report(run, path)
    print(path)


def _add_probe(commands: _Commands) -> None:
    parser = commands.add_parser("probe", help="look at one minibatch of a saved Keras model")
    parser.add_argument("model", type=_path, help="a file of model.save: model.keras")
    parser.add_argument("data", type=_path, help="a file of numpy.savez with inputs and targets")
    parser.add_argument("--x", default="x", help="its array of inputs; default: x")
    parser.add_argument("--y", default="y", help="its array of targets; default: y")
    parser.add_argument(
        "--batch", type=_count(2**31 - 1), default=64, help="examples to take; default: 64"
    )
    parser.add_argument("-o", "--output", type=_output, help="file of a report; default: none")
    parser.set_defaults(run=print_probe)


def print_probe(options: argparse.Namespace) -> None:
    """Print what a minibatch shows of a saved model, and write the report if it is asked for."""
    from gradprop.inspection import saved

    found = saved.probe_files(options.model, options.data, options.x, options.y, options.batch)
    print(found.diagnose())
    if options.output:
        found.report(options.output)
        print(options.output)


def _add_compare(commands: _Commands) -> None:
    parser = commands.add_parser("compare", help="put the runs of two monitors side by side")
    parser.add_argument("runs", type=_path, nargs=2, help="folders of two gradprop.Monitors")
    parser.add_argument("-o", "--output", type=_output, help="file of a report; default: none")
    parser.set_defaults(run=print_comparison)


def print_comparison(options: argparse.Namespace) -> None:
    """Print how two runs differ, and write the page if it is asked for."""
    from gradprop.inspection import compare

    found = compare(*options.runs)
    print(found)
    if options.output:
        found.report(options.output)
        print(options.output)


def _add_advise(commands: _Commands) -> None:
    parser = commands.add_parser("advise", help="say which initialization an activation needs")
    parser.add_argument(
        "--activation", default="relu", help="selu, leaky_relu(slope=0.1) ...; default: relu"
    )
    parser.add_argument("--depth", type=int, default=20, help="hidden layers; default: 20")
    parser.add_argument("--width", type=int, default=64, help="units of each; default: 64")
    parser.add_argument("--initializer", help="one that is asked about besides the usual ones")
    parser.add_argument("--json", action="store_true", help="print JSON; infinite numbers are null")
    parser.set_defaults(run=print_advice)


def print_advice(options: argparse.Namespace) -> None:
    """Print what theory says of an activation function."""
    from gradprop.advice import advise

    found = advise(options.activation, options.depth, options.width, options.initializer)
    print(json.dumps(found.document(), indent=1, ensure_ascii=False) if options.json else found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    environment.fix()
    if problem := environment.obstacle() or environment.memory_limit():
        return _fail(problem)
    options = make_parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()  # a pipe that is closed shows here, not when Python ends
    except GradpropError as error:
        if isinstance(error, CodeError):
            traceback.print_exception(error.__cause__)
        return _fail(str(error))
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return BROKEN_PIPE
    except OSError as error:  # a file that is missing or may not be read or written
        name = f"{errors.cut_path(str(error.filename))}: " if error.filename else ""
        return _fail(f"{name}{error.strerror or errors.cut(str(error))}")
    except RecursionError:
        return _fail("what a file holds is nested too deeply")
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except Exception as error:
        if not (isinstance(error, MemoryError) or any(sign in str(error) for sign in NO_MEMORY)):
            raise
        reason = errors.cut(str(error).partition("\n")[0], 200)
        return _fail(f"not enough memory. {reason}" if reason else "not enough memory")
    return 0


def _fail(problem: str, status: int = 1) -> int:
    print(f"gradprop: {problem}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
