# gradprop: vanishing and exploding gradients, measured.
# `snakemake --cores 4` builds reports/index.html; `snakemake --list` names the other targets.
import os
import sys
from pathlib import Path

from snakemake.utils import min_version

from gradprop.errors import ConfigError
from gradprop.grid.config import read_mapping
from gradprop.training import environment

min_version("9.10")

if problem := environment.memory_limit():
    sys.exit(f"gradprop: {problem}")

# The configuration of the working directory, or else the one beside this file.
HERE = Path("config/config.yaml")
CONFIG_FILE = HERE if os.path.lexists(HERE) else Path(workflow.basedir) / HERE
OVERRIDES = [os.path.relpath(path) for path in workflow.overwrite_configfiles]
try:  # Snakemake would not name the file
    PARTS = {path: read_mapping(Path(path)) for path in [str(CONFIG_FILE), *OVERRIDES]}
except ConfigError as error:
    sys.exit(str(error))


configfile: str(CONFIG_FILE)


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        REPORT,
        [str(path) for path in all_manifests()],
    message:
        "Everything is there"
