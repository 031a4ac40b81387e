# Helpers only: the studies of the configuration, and the files and parameters of their jobs.
import re
import shlex
import sys
from functools import cache
from itertools import chain

from snakemake.settings.types import DeploymentMethod
from snakemake.utils import update_config
from snakemake_logger_plugin_gradprop import TARGETS

from gradprop import files, provenance
from gradprop.errors import ConfigError, GradpropError
from gradprop.grid import definitions, folders, plan
from gradprop.grid.command_line import command_of
from gradprop.grid.config import whole_numbers, with_numbers
from gradprop.grid.schema import config_schema
from gradprop.results import manifests, products

# Steps run the `gradprop` of the Python that runs Snakemake, by its path: not every folder can be
# put on PATH (with -P, the working directory hides no module). With large pages of memory
# (glibc's malloc on Linux; ignored elsewhere) training takes 5 to 10 % less time.
PYTHON = shlex.quote(sys.executable).replace("{", "{{").replace("}", "}}")
if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method:
    # The environment's Python is first on PATH then; this package is the only thing it lacks.
    PYTHON = f"env PYTHONPATH={shlex.quote(str(provenance.PACKAGE.parent))} python"
shell.prefix(
    f'set -euo pipefail; gradprop() {{{{ {PYTHON} -P -m gradprop.cli "$@"; }}}}; '
    "export GLIBC_TUNABLES=glibc.malloc.hugetlb=1; "  # and nothing of the caller's: it can change bits
    "export PYTHONUNBUFFERED=1; "  # a log has lines in the order in which they were written
)

# Steps tell what they do on stderr. Stdout has what a study's own code prints: the log gets it, and
# the screen does not. The log is emptied first, and then both append to it.
TOLD = r"2>&1 >{log:q} >>{log:q} | tee -a {log:q}"
# Of a job that fails in a study's own code the log has the traceback, and the screen what it means.
LAST_WORDS = r">{log:q} 2>&1 || {{ sed -n '\%^gradprop: %,$p' {log:q} >&2; exit 1; }}"
# Of one that tells what it does the screen has that as well.
PROGRESS = rf"{TOLD} | sed -nu '\%^\[%p; \%^gradprop: %,$p'"

for folder in {workflow.basedir, str(provenance.PACKAGE)}:
    if re.search("[{}]", folder):  # and it knows no way to write a brace that is none
        sys.exit(
            f"{folder}: Snakemake takes braces in a path for a wildcard; choose another folder"
        )


def load_plan():
    update_config(config, CHOSEN)
    parts = {**PARTS, "--config": CHOSEN}
    try:
        return plan.load(config, list(PARTS)[-1], Path(workflow.basedir), parts=parts)
    except ConfigError as error:
        sys.exit(str(error))


RESULTS, REPORTS = Path("results"), Path("reports")
CHOSEN = with_numbers(workflow.config_settings.config, config_schema())
PLAN = load_plan()
STUDIES = PLAN.studies
config.update(whole_numbers(config))  # `stack_size: 3.0` goes to the command line
SEEDS = config.get("seeds", 5)
SHARDS = PLAN.shards
DATASETS = PLAN.datasets
COMMAND = command_of(OVERRIDES, CHOSEN)
REPORT = f"reports/{config.get('report', {}).get('file', 'index.html')}"
TITLE = config.get("report", {}).get("title", "gradprop")
REPORT_MANIFEST = products.report(REPORTS, [*STUDIES.values()], REPORT, TITLE, COMMAND)
TABLES = f"reports/tables/{Path(REPORT).stem}"
TARGETS[:] = [REPORT, "verify", *(f"study_{name}" for name in STUDIES)]


wildcard_constraints:
    digest="[0-9a-f]{12}",
    part="grid|study",
    study="|".join(STUDIES),
    dataset="|".join(map(re.escape, DATASETS)),
    shard=r"[\w.]+-width\d+-\w+(-\w+)*",


def definition(study, part):
    """Return the file that holds a study's definition, or the part that its cells depend on."""
    return str(definitions.definition_path(RESULTS / study, STUDIES[study], part))


def study_folder(study):
    """Return a function that gives the folder of a study."""
    return lambda wildcards: str(STUDIES[study].folder)


def own_files(study, *wanted):
    """Return what a step depends on of a study's own files.

    They are `ancient`: the manifest of what was made says whether what they hold was changed.
    """
    found = folders.own_files(STUDIES[study].folder, *wanted)
    return ancient([str(path) for path in found if path.exists()])


def literal(text):
    """Return a text for Snakemake's report, which takes what stands in braces for wildcards.

    There is no way to quote a brace; one that a word joiner follows, which has no width, is none.
    """
    return text.replace("{", "{\N{WORD JOINER}")


def chapter(study=None):
    """Return the category of a study in Snakemake's report, or that of the report.

    They are sorted by their names.
    """
    title = STUDIES[study].title if study else "The report"
    number = [None, *STUDIES].index(study)
    return literal(f"{number:0{len(str(len(STUDIES)))}} {title}")


def caption(study, figure):
    """Return the caption of a figure, which the job that draws it writes."""
    return str((REPORTS / "data" / study / f"{figure}.rst").absolute())


def labels(study, figure):
    """Return a function that gives title and facts of a figure, as they stand beside it.

    Of a label with two values, each in half of a list, Snakemake's page makes a switch, and fails
    where a combination is missing. Facts differ by word joiners, so that no two are the same.
    """
    every = [(name, one) for name, known in STUDIES.items() for one in known.figures]
    apart = "\N{WORD JOINER}" * every.index((study, figure))

    def read(wildcards):
        known = files.read_json(REPORTS / "data" / study / f"{figure}.json", dict)
        facts = {name: literal(text) + apart for name, text in known["facts"].items()}
        return {"result": literal(known["title"]), **facts}

    return read


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
    return SHARDS[wildcards.study][wildcards.shard].stacks[0].first.dataset


def training_memory(wildcards, attempt):
    """Return the MB that a training job may use on a cluster."""
    return PLAN.jobs[wildcards.study][wildcards.shard].megabytes(attempt)


def training_time(wildcards, attempt):
    """Return the minutes that a training job may take on a cluster."""
    return PLAN.jobs[wildcards.study][wildcards.shard].minutes(attempt)


def analysis_memory(study):
    """Return a function of the attempt: the MB for figures or claims of a study on a cluster."""
    return lambda wildcards, attempt: PLAN.needs[study].analysis.megabytes(attempt)


def analysis_time(study):
    """Return a function of the attempt: the minutes for figures or claims of a study."""
    return lambda wildcards, attempt: PLAN.needs[study].analysis.minutes(attempt)


def dataset_folder(wildcards):
    """Return the option that names the study whose own data set this is; nothing for the package's."""
    for name, shards in SHARDS.items():
        found = [shard.stacks[0].first for shard in shards.values()]
        if any(c.dataset.slug == wildcards.dataset and "dataset=" in c.code for c in found):
            return f"--folder {shlex.quote(str(STUDIES[name].folder))}"
    return ""


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
    """Let Snakemake make again what is damaged, gone, or was made by other code.

    While another Snakemake runs here, its manifests are its own; this one will not start jobs. A
    dry run changes nothing: it plans without what a real one removes.
    """
    if any(Path(".snakemake/locks").glob("*")):
        return
    paths = [Path(definition(name, part)) for name in STUDIES for part in ("study", "grid")]
    damaged = [path for path in paths if definitions.is_damaged(path)]
    lines = {f"{path}: damaged or edited; it is made again": None for path in damaged}
    if workflow.output_settings.dryrun:
        false = manifests.false(all_manifests())
        lines |= dict.fromkeys(chain(*false.values()))
        manifests.hide([*damaged, *false])
    else:
        for path in damaged:
            path.unlink()
        lines |= dict.fromkeys(manifests.discard_false(all_manifests()))
    for line in lines:
        print(f"gradprop: {line}", file=sys.stderr)


def tell_of_other_machines():
    """Say if results were computed with other instructions than this machine would use."""
    here = provenance.instructions()
    for there in sorted(manifests.machines(all_manifests()) - {here}):
        print(
            f"gradprop: there are results from a processor with the instructions {there}; this one "
            f"has {here}: what is computed here may differ from those in its last bits",
            file=sys.stderr,
        )


def training_jobs():
    """Return study and shard of all training jobs with their manifests."""
    return {
        (study, name): products.tables(RESULTS / study, shard)
        for study, shards in SHARDS.items()
        for name, shard in shards.items()
    }


if workflow.is_main_process:
    try:
        discard_what_is_not_right()
        tell_of_other_machines()
    except (GradpropError, OSError) as error:
        sys.exit(f"gradprop: {error}")


onstart:
    # With a limit on the jobs that start in a second, Snakemake looks for jobs to start once a second
    # for every job that has ended, until the last one has. Its own limit, 100, is of no use here. A
    # version that keeps it elsewhere works all the same.
    limit = getattr(workflow.scheduler, "job_rate_limiter", None)
    if limit is not None and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None
    if workflow.is_main_process:
        jobs = training_jobs()
        # By the logs of jobs, which is what the plugin that prints their ends knows of them.
        planned = {
            f"logs/{study}/train/{path.stem}.log": PLAN.jobs[study][name].seconds
            for (study, name), path in jobs.items()
        }
        missing = [job for job, path in jobs.items() if not path.exists()]
        logger.info(f"gradprop: {plan.summary(PLAN, missing)}", extra={"planned": planned})
        for study, shards in SHARDS.items():
            products.forget_tables(RESULTS / study, shards.values())
        # A job may have outlived the Snakemake that started it.
        for folder in [*map(RESULTS.joinpath, ["data", *STUDIES]), REPORTS]:
            if not files.is_locked(folder):
                files.remove_leftovers(folder)
