# gradprop: vanishing and exploding gradients, measured.
# `snakemake --cores 4` builds reports/index.html; `snakemake --list` names the other targets.
from pathlib import Path

from snakemake.utils import min_version

min_version("9.10")


# The configuration of the working directory, or else the one beside this file.
HERE = Path("config/config.yaml")


configfile: str(HERE if HERE.exists() else Path(workflow.basedir) / HERE)


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
