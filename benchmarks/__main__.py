"""``python -m benchmarks``: measure, print and store the table and the figure."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import figure, results
from benchmarks.parts import PARTS, QUICK, Size
from benchmarks.process import JobError
from benchmarks.work import ROOT
from gradprop import provenance
from gradprop.components import datasets
from gradprop.spec import Component


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run: small work, once; its numbers say little"
    )
    parser.add_argument(
        "--only", action="append", choices=list(PARTS), help="a part; may be repeated"
    )
    parser.add_argument("--repetitions", type=int, help="of every job; default: 3")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder; default: benchmarks/results, or build/benchmarks with --quick",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen parts; rows of other parts stay in the table."""
    options = parse_arguments(arguments)
    size = QUICK if options.quick else Size()
    if options.repetitions:
        size = replace(size, repetitions=options.repetitions)
    default = ROOT / ("build/benchmarks" if options.quick else "benchmarks/results")
    table = (options.output or default) / "benchmark.csv"
    processor = provenance.processor()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "digits.npz"
        datasets.write(Component("digits"), data)
        for name in options.only or PARTS:
            print(f"[{name}]", file=sys.stderr, flush=True)
            try:
                measured = PARTS[name](size, str(data))
            except JobError as error:
                print(error, file=sys.stderr)
                return 1
            rows = [r for r in results.read(table) if r.part != name]
            if options.quick:  # the work is too small to judge by
                measured = [replace(r, aim="") for r in measured]
            rows += [replace(r, processor=processor) for r in measured]
            rows.sort(key=lambda r: list(PARTS).index(r.part))
            results.write(rows, table)  # after every part, so that an interruption loses one
    figure.draw(rows, table.with_suffix(".svg"))
    print(f"\n{processor}, one thread\n\n{results.text(rows)}\n")
    print(f"Written: {table} and {table.with_suffix('.svg').name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
