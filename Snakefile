# gradprop: vanishing and exploding gradients, measured.
# `snakemake --cores 4` builds reports/index.html; `snakemake --list` names the other targets.
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")


# The configuration of the working directory, or else the one beside this file.
configfile: (
    "config/config.yaml"
    if Path("config/config.yaml").exists()
    else f"{workflow.basedir}/config/config.yaml"
)


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        "reports/index.html",
