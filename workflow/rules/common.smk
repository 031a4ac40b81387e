# Helpers only: the studies of the configuration, and the files and parameters of their jobs.
import json
import os
import re
import sys

from gradprop import grid, plan, provenance
from gradprop.config import ConfigError

# Steps run the `gradprop` command of the Python that runs Snakemake. With large pages of memory
# (glibc's malloc on Linux; ignored elsewhere) training takes 5 to 10 % less time.
shell.prefix(
    f'set -euo pipefail; export PATH="{Path(sys.executable).parent}:$PATH"; '
    'export GLIBC_TUNABLES="glibc.malloc.hugetlb=1${{GLIBC_TUNABLES:+:$GLIBC_TUNABLES}}"; '
)


# Snakemake lists those of the command line first, which override the project's own.
OVERRIDES = [os.path.relpath(path) for path in workflow.overwrite_configfiles]
CONFIG_FILES = OVERRIDES or workflow.configfiles


def load_plan():
    source = str(CONFIG_FILES[-1]) if CONFIG_FILES else "config"
    try:
        return plan.load(config, source, Path(workflow.basedir))
    except ConfigError as error:
        sys.exit(str(error))


PLAN = load_plan()
STUDIES = PLAN.studies
REPORT = f"reports/{config.get('report', {}).get('file', 'index.html')}"
CHOSEN = f"--configfile {' '.join(OVERRIDES)} " if OVERRIDES else ""
COMMAND = f"snakemake {CHOSEN}--cores 4"  # --configfile takes all that follows: never the last
SHARDS = PLAN.shards
DATASETS = PLAN.datasets


wildcard_constraints:
    part="grid|study",
    study="|".join(STUDIES),
    dataset="|".join(map(re.escape, DATASETS)),
    shard=r"[\w.]+-width\d+-\w+(-\w+)*",


def modules(names):
    """Return the files of package modules, so that an edit of their content is seen."""
    return provenance.module_paths(names)


def study_tables(study, names):
    """Return the files of tables of a study, for all its shards."""
    return expand(
        "results/{study}/{table}/{shard}.parquet",
        study=study,
        table=names,
        shard=SHARDS[study],
    )


def measurement_tables(study):
    """Return the files of the measurements of a study, for the shards that have them."""
    return [
        f"results/{study}/{table}/{shard}.parquet"
        for shard in SHARDS[study]
        for table in grid.measured_tables(shard)
    ]


def figure_files(study, formats):
    return expand(
        "reports/figures/{study}/{figure}.{format}",
        study=study,
        figure=STUDIES[study].figures,
        format=formats,
    )


def figure_data(study, formats):
    return expand(
        "reports/data/{study}/{figure}.{format}",
        study=study,
        figure=STUDIES[study].figures,
        format=formats,
    )


def definition(wildcards):
    """Return what a study is built from, or only what its cells depend on, as JSON."""
    study = STUDIES[wildcards.study].definition
    return json.dumps(study if wildcards.part == "study" else grid.cell_definition(study))


def shard_dataset(wildcards):
    """Return the file of the data set that a shard is trained on."""
    program = SHARDS[wildcards.study][wildcards.shard].stacks[0].program
    return f"results/data/{program.dataset.slug}.npz"
