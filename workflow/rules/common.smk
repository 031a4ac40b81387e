# Helpers only: the studies of the configuration, and the files and parameters of their jobs.
import json
import re
import shlex
import sys

from gradprop import grid, provenance
from gradprop.config import ConfigError, whole_numbers

# Steps run the `gradprop` command of the Python that runs Snakemake. With large pages of memory
# (glibc's malloc on Linux; ignored elsewhere) training takes 5 to 10 % less time.
shell.prefix(
    f'set -euo pipefail; export PATH="{Path(sys.executable).parent}:$PATH"; '
    'export GLIBC_TUNABLES="glibc.malloc.hugetlb=1${{GLIBC_TUNABLES:+:$GLIBC_TUNABLES}}"; '
)


def load_studies():
    source = list(PARTS)[-1]
    parts = {**PARTS, "--config": workflow.config_settings.config}
    folders = [Path("config/studies"), Path(workflow.basedir) / "config/studies"]
    schemas = Path(workflow.basedir) / "workflow/schemas"
    try:
        return grid.load_studies(config, source, folders, schemas, parts)
    except ConfigError as error:
        sys.exit(str(error))


STUDIES = load_studies()
config.update(whole_numbers(config))  # `stack_size: 3.0` goes to the command line
REPORT = f"reports/{config.get('report', {}).get('file', 'index.html')}"
CHOSEN = f"--configfile {shlex.join(OVERRIDES)} " if OVERRIDES else ""
COMMAND = f"snakemake {CHOSEN}--cores 4"  # --configfile takes all that follows: never the last
SHARDS = {name: grid.shards(study.cells) for name, study in STUDIES.items()}
DATASETS = {cell.dataset.slug: cell.dataset for study in STUDIES.values() for cell in study.cells}


wildcard_constraints:
    part="grid|study",
    study="|".join(STUDIES),
    dataset="|".join(map(re.escape, DATASETS)),
    shard=r"[\w.]+-width\d+-\w+(-\w+)*",


def literal(text):
    """Return a text for Snakemake's report, which takes what stands in braces for wildcards.

    There is no way to quote a brace; one that a word joiner follows, which has no width, is none.
    """
    return text.replace("{", "{\N{WORD JOINER}")


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
    cell = SHARDS[wildcards.study][wildcards.shard].cells[0]
    return f"results/data/{cell.dataset.slug}.npz"
