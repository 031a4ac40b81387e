"""The process of one measured job: ``python -m benchmarks.worker module.function output json``."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def main(task: str, output: str, arguments: str) -> None:
    """Call ``benchmarks.<task>(**arguments)`` and write what it returns as JSON."""
    module, function = task.rsplit(".", 1)
    call = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    Path(output).write_text(json.dumps(call(**json.loads(arguments))), encoding="utf-8")


def probe(**arguments: Any) -> dict[str, Any]:
    """Do nothing: a job that costs the start of Python alone."""
    return arguments


if __name__ == "__main__":
    main(*sys.argv[1:])
