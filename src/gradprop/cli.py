"""The `gradprop` command: every step of the workflow, to be run and debugged by hand."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from gradprop import __version__, environment, files
from gradprop.errors import GradpropError
from gradprop.spec import Component


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="gradprop", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")

    define = commands.add_parser("define", help="write a study's definition")
    define.add_argument("study", type=Path, help="config/studies/<study>.yaml")
    define.add_argument("output", type=Path, help="results/<study>/study.json or grid.json")
    define.add_argument(
        "--seeds", type=int, default=5, help="of a grid without its own; default: 5"
    )
    define.set_defaults(run=write_definition)

    plan = commands.add_parser("plan", help="say what a configuration needs; make nothing")
    plan.add_argument(
        "--configfile", type=Path, nargs="+", default=[], help="overrides config.yaml"
    )
    plan.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="overrides both")
    plan.add_argument("--directory", type=Path, default=Path(), help="default: this one")
    plan.set_defaults(run=print_plan)

    data = commands.add_parser("data", help="make a data set")
    data.add_argument("dataset", help="its label: digits, circles(noise=0.1) ...")
    data.add_argument("output", type=Path, help="results/data/<dataset>.npz")
    data.set_defaults(run=write_data)

    train = commands.add_parser("train", help="train the missing cells of a shard")
    train.add_argument("grid", type=Path, help="results/<study>/grid.json or study.json")
    train.add_argument("shard", help="its name: <dataset>-width<n>-depth<n>to<n>")
    train.add_argument("data", type=Path, help="results/data/<dataset>.npz")
    train.add_argument("--threads", type=int, default=1, help="default: 1")
    train.add_argument("--stack-size", type=int, default=40, help="most cells a stack; default: 40")
    train.set_defaults(run=train_cells)

    figures = commands.add_parser("figures", help="draw the figures of a study that changed")
    figures.add_argument("study", type=Path, help="results/<study>/study.json")
    figures.add_argument("--reports", type=Path, default=Path("reports"), help="default: reports")
    figures.add_argument("--processes", type=int, default=1, help="that draw; default: 1")
    figures.set_defaults(run=draw_figures)

    claims = commands.add_parser("claims", help="judge a study's claims and networks")
    claims.add_argument("study", type=Path, help="results/<study>/study.json")
    claims.add_argument("--reports", type=Path, default=Path("reports"), help="default: reports")
    claims.set_defaults(run=judge_claims)

    verify = commands.add_parser("verify", help="compare verdicts with those listed as supported")
    verify.add_argument("claims", type=Path, nargs="+", help="reports/claims/<study>.json")
    verify.add_argument("--listed", type=Path, required=True, help="reports/reference/claims.json")
    verify.add_argument("--update", action="store_true", help="list these verdicts from now on")
    verify.set_defaults(run=verify_claims)

    report = commands.add_parser("report", help="write the HTML report")
    report.add_argument(
        "studies", type=Path, nargs="+", help="results/<study>/study.json, in order"
    )
    report.add_argument("--reports", type=Path, default=Path("reports"), help="default: reports")
    report.add_argument("--name", default="index.html", help="its file; default: index.html")
    report.add_argument("--title", default="gradprop", help="its heading")
    report.add_argument(
        "--command", default="snakemake --cores 4", help="that builds it, for its last section"
    )
    report.set_defaults(run=write_html)
    return parser.parse_args(arguments)


def write_definition(options: argparse.Namespace) -> None:
    """Write a study's definition."""
    from gradprop import grid

    grid.write_definition(options.study, options.seeds, options.output)


def print_plan(options: argparse.Namespace) -> None:
    """Print what every study needs."""
    from gradprop import plan

    document, source = plan.read(options.configfile, options.config, options.directory)
    print(plan.table(plan.load(document, source, directory=options.directory)))


def write_data(options: argparse.Namespace) -> None:
    """Generate a data set."""
    from gradprop import config, datasets, jobs

    try:
        component = Component.parse(options.dataset)
        known = datasets.DATASETS
        if component.name not in known:
            raise config.unknown("dataset", component.name, list(known), "data")
        types = {bool: "boolean", int: "integer", float: "number", str: "string"}
        defaults = known[component.name].parameters.items()
        properties = {name: {"type": types[type(default)]} for name, default in defaults}
        schema = {"additionalProperties": False, "properties": properties}
        config.validate(dict(component.parameters), schema, f"data: {component.name}")
        dataset = jobs.make_dataset(component, options.output)
    except ValueError as error:  # of a generator, about a value that no schema has seen
        raise GradpropError(f"data: {options.dataset}: {error}") from error
    print(
        f"{options.dataset}: {len(dataset.x_train)} training and {len(dataset.x_test)} test "
        f"examples, sha256 {dataset.checksum[:12]}",
        file=sys.stderr,
    )


def train_cells(options: argparse.Namespace) -> None:
    """Train what a shard lacks."""
    from gradprop import config, grid, jobs

    shards = grid.shards(grid.read_study(options.grid).cells)
    if options.shard not in shards:
        raise config.unknown("shard", options.shard, list(shards), str(options.grid))
    shard = shards[options.shard]
    folder = options.grid.parent
    jobs.train_shard(shard, folder, options.data, options.threads, options.stack_size)


def draw_figures(options: argparse.Namespace) -> None:
    """Draw figures and write the plotted numbers."""
    from gradprop import figures, grid

    study = grid.read_study(options.study)
    figures.draw_study(study, options.study.parent, options.reports, options.processes)


def judge_claims(options: argparse.Namespace) -> None:
    """Judge a study's claims and networks."""
    from gradprop import grid, studies

    studies.judge_study(grid.read_study(options.study), options.study.parent, options.reports)


def verify_claims(options: argparse.Namespace) -> None:
    """Print all verdicts; fail if a claim listed as supported no longer is."""
    from gradprop import claims, products

    for path in options.claims:
        products.require_claims(path)
    results = [result for path in options.claims for result in claims.read(path)]
    print(claims.text_table(results))
    print(", ".join(f"{number} {verdict}" for verdict, number in claims.counts(results).items()))
    listed = claims.read_listed(options.listed)
    studies = {path.stem for path in options.claims}
    if options.update:
        kept = {key: old for key, old in listed.items() if key.split("/")[0] not in studies}
        kept |= {result.key: result.verdict for result in results}
        files.write_text(options.listed, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    elif broken := claims.broken(results, listed, studies):
        raise claims.ClaimError("\n  ".join(["no longer supported:", *broken]))


def write_html(options: argparse.Namespace) -> None:
    """Write the report."""
    from gradprop import grid, report

    studies = [grid.read_study(path) for path in options.studies]
    results = options.studies[0].parent.parent
    report.write_report(
        studies, results, options.reports, options.title, options.name, options.command
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    environment.fix()
    options = parse_arguments(arguments)
    try:
        options.run(options)
    except GradpropError as error:
        print(f"gradprop: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a file that is missing or may not be read or written
        name = f"{error.filename}: " if error.filename else ""
        print(f"gradprop: {name}{error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
