# gradprop: vanishing and exploding gradients, measured.
# `snakemake --cores 4` builds reports/index.html; `snakemake --list` names the other targets.
import sys
from pathlib import Path

from snakemake.utils import min_version

from gradprop.config import ConfigError, read_mapping

min_version("9.10")


# The configuration of the working directory, or else the one beside this file.
HERE = Path("config/config.yaml")
CONFIG_FILE = HERE if HERE.exists() else Path(workflow.basedir) / HERE
try:  # Snakemake would not name the file
    read_mapping(CONFIG_FILE)
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
