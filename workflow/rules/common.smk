# Helpers only: the studies of the configuration, and the files and parameters of their jobs.
import re
import shlex
import sys
from functools import cache

from gradprop import files, grid, manifests, plan, products, provenance
from gradprop.config import ConfigError, whole_numbers

# Steps run the `gradprop` of the Python that runs Snakemake, by its path: not every folder can be
# put on PATH (with -P, the working directory hides no module). With large pages of memory
# (glibc's malloc on Linux; ignored elsewhere) training takes 5 to 10 % less time.
PYTHON = shlex.quote(sys.executable).replace("{", "{{").replace("}", "}}")
shell.prefix(
    f'set -euo pipefail; gradprop() {{{{ {PYTHON} -P -m gradprop.cli "$@"; }}}}; '
    'export GLIBC_TUNABLES="glibc.malloc.hugetlb=1${{GLIBC_TUNABLES:+:$GLIBC_TUNABLES}}"; '
)

for folder in {workflow.basedir, str(provenance.PACKAGE)}:
    if re.search("[{}]", folder):  # and it knows no way to write a brace that is none
        sys.exit(
            f"{folder}: Snakemake takes braces in a path for a wildcard; choose another folder"
        )


FOLDERS = [Path("config/studies"), Path(workflow.basedir) / "config/studies"]


def load_plan():
    parts = {**PARTS, "--config": workflow.config_settings.config}
    try:
        return plan.load(config, list(PARTS)[-1], Path(workflow.basedir), parts=parts)
    except ConfigError as error:
        sys.exit(str(error))


RESULTS, REPORTS = Path("results"), Path("reports")
PLAN = load_plan()
STUDIES = PLAN.studies
config.update(whole_numbers(config))  # `stack_size: 3.0` goes to the command line
STUDY_FILES = {
    name: str(next(p for folder in FOLDERS if (p := folder / f"{name}.yaml").exists()))
    for name in STUDIES
}
SEEDS = config.get("seeds", 5)
SHARDS = PLAN.shards
DATASETS = PLAN.datasets
CHOSEN = f"--configfile {shlex.join(OVERRIDES)} " if OVERRIDES else ""
COMMAND = f"snakemake {CHOSEN}--cores 4"  # --configfile takes all that follows: never the last
REPORT = f"reports/{config.get('report', {}).get('file', 'index.html')}"
TITLE = config.get("report", {}).get("title", "gradprop")
REPORT_MANIFEST = products.report(REPORTS, [*STUDIES.values()], REPORT, TITLE, COMMAND)


wildcard_constraints:
    digest="[0-9a-f]{12}",
    part="grid|study",
    study="|".join(STUDIES),
    dataset="|".join(map(re.escape, DATASETS)),
    shard=r"[\w.]+-width\d+-\w+(-\w+)*",


def definition(study, part):
    """Return the file that holds a study's definition, or the part that its cells depend on."""
    return str(grid.definition_path(RESULTS / study, STUDIES[study], part))


def literal(text):
    """Return a text for Snakemake's report, which takes what stands in braces for wildcards.

    There is no way to quote a brace; one that a word joiner follows, which has no width, is none.
    """
    return text.replace("{", "{\N{WORD JOINER}")


@cache  # digests of large grids take a second
def study_tables(study):
    """Return the manifests of a study's tables, for all its shards."""
    return [str(products.tables(RESULTS / study, shard)) for shard in SHARDS[study].values()]


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


def shard_data(wildcards):
    """Return the data set that a shard is trained on."""
    return SHARDS[wildcards.study][wildcards.shard].stacks[0].program.dataset


def shard_dataset(wildcards):
    """Return the manifest of the data set that a shard is trained on."""
    return str(products.dataset(RESULTS / "data", shard_data(wildcards)))


def all_manifests():
    """Return the manifests of everything that this configuration asks for."""
    yield from (products.dataset(RESULTS / "data", dataset) for dataset in DATASETS.values())
    for name, study in STUDIES.items():
        yield from map(Path, study_tables(name))
        yield products.figures(REPORTS, study)
        yield products.claims(REPORTS, study)
    yield REPORT_MANIFEST


def discard_what_is_not_right():
    """Let Snakemake make again what is damaged, gone, or was made by other code."""
    parts = [(study, part) for study in STUDIES for part in ("study", "grid")]
    lines = [grid.discard_damaged(Path(definition(*part))) for part in parts]
    for line in filter(None, [*lines, *manifests.discard_false(all_manifests())]):
        print(f"gradprop: {line}", file=sys.stderr)


if workflow.is_main_process:
    discard_what_is_not_right()


onstart:
    if workflow.is_main_process:
        print(f"gradprop: {plan.summary(PLAN)}", file=sys.stderr)
        for folder in (RESULTS, REPORTS):
            files.remove_leftovers(folder)
