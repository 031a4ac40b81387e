# Helpers only: the studies of the configuration, and the files and parameters of their jobs.
import json
import re
import sys

from snakemake.exceptions import WorkflowError

from gradprop import grid, provenance
from gradprop.config import ConfigError
from gradprop.spec import digest

# Steps run the `gradprop` command of the Python that runs Snakemake.
shell.prefix(f'export PATH="{Path(sys.executable).parent}:$PATH"; ')


def load_studies():
    source = str(workflow.configfiles[-1]) if workflow.configfiles else "config"
    folders = [Path("config/studies"), Path(workflow.basedir) / "config/studies"]
    schemas = Path(workflow.basedir) / "workflow/schemas"
    try:
        return grid.load_studies(config, source, folders, schemas)
    except ConfigError as error:
        raise WorkflowError(str(error)) from None


STUDIES = load_studies()
SHARDS = {name: grid.shards(study.cells) for name, study in STUDIES.items()}
DATASETS = {cell.dataset.slug: cell.dataset for study in STUDIES.values() for cell in study.cells}


wildcard_constraints:
    study="|".join(STUDIES),
    dataset="|".join(map(re.escape, DATASETS)),
    shard=r"[\w.]+-width\d+-\w+",


def modules(names):
    """Return the files of package modules, so that an edit of their content is seen."""
    return provenance.module_paths(names)


def study_tables(study, tables):
    """Return the files of tables of a study, for all its shards."""
    return expand(
        "results/{study}/{table}/{shard}.parquet",
        study=study,
        table=tables,
        shard=SHARDS[study],
    )


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


def study_definition(wildcards):
    return json.dumps(STUDIES[wildcards.study].definition)


def shard_cells(wildcards):
    """Return a digest of the cells of a shard: a new cell makes the job run."""
    shard = SHARDS[wildcards.study][wildcards.shard]
    return digest(sorted(cell.id for cell in shard.cells))


def shard_dataset(wildcards):
    """Return the file of the data set that a shard is trained on."""
    cell = SHARDS[wildcards.study][wildcards.shard].cells[0]
    return f"results/data/{cell.dataset.slug}.npz"
