"""What is wrong with Snakemake's command line, told before it starts."""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gradprop.errors import LONGEST_VALUE, ConfigError, cut, cut_path, show
from gradprop.grid.config import read_mapping

CORES = ("--cores", "4")


def command_of(configfiles: Sequence[str], chosen: Mapping[str, Any]) -> str:
    """Return Snakemake's command line with a configuration, which targets may follow.

    Parameters
    ----------
    configfiles
        Those of ``--configfile``.
    chosen
        What ``--config`` says, as plain data.
    """
    words = ["--configfile", *configfiles] if configfiles else []
    values = [f"{key}={_flow(value)}" for key, value in chosen.items()]
    words += ["--config", *values] if values else []
    # Both options take all that follows: neither is the last.
    return shlex.join(["snakemake", *words, *CORES])


def _flow(value: Any) -> str:
    """Return plain data as YAML in one line, as it is typed."""
    text: str = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf
    )
    return text.removesuffix("...\n").strip()


def check_command_line() -> None:
    """Leave with one line if Snakemake's own command line names what is no configuration.

    Snakemake reads the files of ``--configfile`` and the values of ``--config`` before the
    Snakefile, and tells neither file nor line; workflow/profiles/default has this called first.
    """
    try:
        _check_arguments(sys.argv[1:])
        _check_directory(sys.argv[1:])
    except ConfigError as error:
        sys.exit(str(error))


def _check_directory(arguments: Sequence[str]) -> None:
    """Raise an error if Snakemake can't write where it is to work."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--directory", "-d", default=".")
    folder = Path(parser.parse_known_args([*arguments])[0].directory)
    if folder.is_dir() and not os.access(folder, os.W_OK):
        hint = "results are made there; another folder: snakemake --directory FOLDER"
        raise ConfigError(f"{cut_path(str(folder.resolve()))}: cannot be written to; {hint}")


def _check_arguments(arguments: Sequence[str]) -> None:
    for option, value in _option_values(arguments):
        if option == "--config":
            key, equals, _ = value.partition("=")
            known = bool(equals and re.fullmatch(r"[a-zA-Z_][\w-]*\w", key))
            problem = "is not key=value"
        else:
            known = value.endswith((".yaml", ".yml", ".json"))
            problem = "is not a file .yaml, .yml or .json"
        if not known:
            others = [argument for argument in arguments if argument != value]
            command = cut(shlex.join(["snakemake", value, *others]), 2 * LONGEST_VALUE)
            hint = f"{option} takes all that follows, so name targets first: {command}"
            raise ConfigError(f"{option}: {show(value)} {problem}; {hint}")
        if option == "--configfile":
            read_mapping(Path(value))


def _option_values(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield what Snakemake will take for a value of --configfile or --config."""
    option = ""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name.startswith("-"):
            option = "--configfile" if name.startswith("--configf") else ""
            option = "--config" if name in ("--config", "-C") else option
            if option and equals:
                yield option, value
        elif option:
            yield option, argument
