"""What a run prints: one line per job as it ends, how far the run is, how long it will take.

A plugin of Snakemake (``logger: gradprop`` in the profiles). A dry run (``-n``) prints one line for
each job that would run. With an option that asks for details (``--verbose``, ``--printshellcmds``,
``--debug-dag``) Snakemake prints what it would print without it; the log file in
``.snakemake/log`` is always Snakemake's own.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter, show_logs
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from gradprop.errors import suggestion
from gradprop.grid.plan import duration

__all__ = ["LogHandler"]

# What can be asked for by name; the workflow fills it in when it is read.
TARGETS: list[str] = []
# How Snakemake's messages begin that tell how it works, and not what became of a job.
_CHATTER = (
    "Assuming unrestricted shared filesystem usage",
    "Building DAG of jobs",
    "Complete log",
    "Conda environments: ignored",
    "Elapsed time",
    "Execute ",
    "Exiting because a job execution failed",
    "Group jobs: inactive",
    "Reasons:",
    "Rules claiming more threads",
    "Select jobs to execute",
    "Shutting down, this might take some time",
    "Using profile",
    "Using shell",
    "Using workflow specific profile",
)
# And those that tell that the user ends the run, at once or when the jobs that run have ended.
_STOPPED = ("Terminating processes on user request", "Will exit after finishing currently running")
# Errors of jobs, with their commands; a record of what failed comes before or after them.
_OF_JOBS = ("CalledProcessError", "RuleException")
# Seconds of a job that is not planned: a definition, figures, claims.
_OTHER = 5.0
# The planned seconds that must be done before the speed of the run says anything.
_LEAST = 20.0


class LogHandler(LogHandlerBase):
    """Prints lines for people on stderr."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        quiet = self.common_settings.quiet or ()
        dry = self.common_settings.dryrun
        self.run = _DryRun() if dry else _Run(counting=Quietness.PROGRESS not in quiet)
        self.plain = _plain_handler(self.common_settings)

    def emit(self, record: logging.LogRecord) -> None:
        """Print what a record tells, if anything."""
        if self.plain:
            self.plain.handle(record)
            return
        settings = self.common_settings
        silent = Quietness.ALL in (settings.quiet or ()) and not settings.dryrun
        text = self.run.told(record)
        if text and settings.show_failed_logs:
            text = "\n".join([text, *show_logs(logs_of(record))])
        if text and (record.levelno >= logging.ERROR or not silent):
            print(text, file=sys.stderr, flush=True)


def _plain_handler(settings: Any) -> logging.Handler | None:
    """Return Snakemake's own handler where an option asks for what it prints."""
    if not (settings.verbose or settings.printshellcmds or settings.debug_dag):
        return None
    quiet = set(settings.quiet or ())
    if settings.printshellcmds:  # they are among what is said of rules
        quiet -= {Quietness.RULES}
    return ColorizingTextHandler(
        nocolor=settings.nocolor,
        stream=sys.stdout if settings.stdout else sys.stderr,
        formatter=DefaultFormatter(quiet, settings.show_failed_logs),
        filter=DefaultFilter(
            quiet, settings.debug_dag, settings.verbose, settings.dryrun, settings.printshellcmds
        ),
    )


def logs_of(record: logging.LogRecord) -> list[str]:
    """Return the logs of what failed: of a group that of the cluster's job, and its members'."""
    known = record.__dict__
    members = [log for job in known.get("job_error_info", ()) for log in job["log"]]
    return [*known.get("aux_logs", ()), *members, *known.get("log", ())]


def _message(record: logging.LogRecord) -> str:
    """Return what a record says that tells of no job, unless it tells how Snakemake works."""
    message = record.getMessage() if record.msg else ""
    if asked := re.search(r"^No rule to produce (.*) \(if you use", message, re.MULTILINE):
        return (
            f"gradprop: nothing makes {asked[1]!r}; allowed: {', '.join(TARGETS)}, and files that "
            f"they need, such as reports/figures/<study>/<figure>.svg"
            f"{suggestion(asked[1], TARGETS)}"
        )
    return "" if message.startswith(_CHATTER) else message


def _name_of(job: Mapping[str, Any]) -> str:
    return str(job.get("rule_msg") or job.get("rule_name") or "")


@dataclass
class _DryRun:
    """What a run would do.

    Attributes
    ----------
    jobs
        How many jobs were told. Those that run nothing, such as ``all``, are not.
    """

    jobs: int = 0

    def told(self, record: logging.LogRecord) -> str:
        """Return what to print of a record."""
        event, known = getattr(record, "event", None), record.__dict__
        if event == LogEvent.JOB_INFO and known["shellcmd"]:
            self.jobs += 1
            return _name_of(known)
        message = _message(record) if event in (LogEvent.ERROR, None) else ""
        if message.startswith("This was a dry-run"):
            jobs = "1 job" if self.jobs == 1 else f"{self.jobs} jobs"
            return f"This was a dry-run: {jobs} would run, and nothing was changed."
        return message


@dataclass
class _Run:
    """How far a run is.

    Attributes
    ----------
    began
        When the first job could.
    counts
        How many jobs of each rule there are, and how many in all.
    planned
        Seconds that jobs are expected to take, by their logs.
    jobs
        What was told of those that were begun, by their numbers.
    finished
        The numbers of those that ended well.
    failed
        The numbers of those that did not, however often they were tried.
    stopped
        Whether the user ended the run.
    counting
        Whether it is told which jobs end.
    """

    began: float = field(default_factory=time.monotonic)
    counts: dict[str, int] = field(default_factory=dict)
    planned: dict[str, float] = field(default_factory=dict)
    jobs: dict[int, dict[str, Any]] = field(default_factory=dict)
    finished: list[int] = field(default_factory=list)
    failed: set[int] = field(default_factory=set)
    stopped: bool = False
    counting: bool = True

    def told(self, record: logging.LogRecord) -> str:
        """Take note of a record; return what to print."""
        event, known = getattr(record, "event", None), record.__dict__
        if "planned" in known:
            self.planned = known["planned"]
        match event:
            case LogEvent.RUN_INFO:
                self.began, self.counts = time.monotonic(), known["stats"]
                return ""
            case LogEvent.JOB_INFO:
                self.jobs[known["jobid"]] = known
                return ""
            case LogEvent.JOB_FINISHED:
                self.finished.append(known["job_id"])
                self.failed.discard(known["job_id"])
                return f"{self._place()} {self._name(known['job_id'])}{self._left()}"
            case LogEvent.JOB_ERROR:
                self.failed.add(known["jobid"])
                of_group = known.get("indent", False)  # which was told before
                return "" if of_group else self._ended([known], logs_of(record))
            case LogEvent.GROUP_ERROR:
                return self._ended(known["job_error_info"], logs_of(record))
            case LogEvent.ERROR if known["exception"] in _OF_JOBS:
                return ""
            case LogEvent.ERROR if (self.failed or self.stopped) and (
                known["exception"] == "WorkflowError"
            ):
                return self._end()
            case LogEvent.ERROR | None:
                message = _message(record)
                self.stopped |= message.startswith(_STOPPED)
                return message
        return ""

    def _ended(self, jobs: Sequence[Mapping[str, Any]], logs: Sequence[str]) -> str:
        """Return the line of jobs that did not end well, and run together."""
        how = "stopped" if self.stopped else "FAILED"
        names = ", ".join(self._name(job["jobid"]) for job in jobs)
        where = f"; log: {', '.join(logs)}" if logs else ""
        return f"{self._place()} {how}: {names}{where}"

    def _end(self) -> str:
        jobs = "a job" if len(self.failed) == 1 else f"{len(self.failed)} jobs"
        what = "the run was stopped" if self.stopped else f"{jobs} failed"
        done = f"; {len(self.finished)} of {self.counts['total']} are done" if self.counting else ""
        go_on = "Run" if self.stopped else "Mend the cause, and run"
        kept = "What jobs had finished before they ended is kept."
        return f"gradprop: {what}{done}. {kept} {go_on} the command again."

    def _place(self) -> str:
        total = self.counts.get("total", len(self.jobs))
        seconds = int(time.monotonic() - self.began)
        clock = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        if not self.counting:
            return f"[{clock}]"
        return f"[{len(self.finished):{len(str(total))}} of {total}, {clock}]"

    def _name(self, job: int) -> str:
        return _name_of(self.jobs.get(job, {})) or f"job {job}"

    def _left(self) -> str:
        """Return how long the rest will take, by the plan and by how fast the run was so far.

        After a failure nobody knows: what needs the failed job is left out.
        """
        if self.failed:
            return ""
        planned = {job: self._seconds(known) for job, known in self.jobs.items()}
        done = sum(planned.get(job, _OTHER) for job in self.finished)
        begun = sum(planned.values()) - done
        waiting = self.counts.get("total", 0) - len(self.jobs)
        logs = {log for known in self.jobs.values() for log in known["log"]}
        training = [seconds for log, seconds in self.planned.items() if log not in logs]
        trainings = min(len(training), max(waiting, 0), self._waiting_trainings())
        rest = begun + _OTHER * (waiting - trainings)
        rest += trainings * sum(training) / max(len(training), 1)
        if waiting <= 0 and begun <= 0:
            return ""
        elapsed = time.monotonic() - self.began
        speed = elapsed / done if done >= _LEAST else 1.0
        return f"; about {duration(speed * rest)} left"

    def _waiting_trainings(self) -> int:
        begun = sum(known["rule_name"] == "train" for known in self.jobs.values())
        return self.counts.get("train", 0) - begun

    def _seconds(self, known: dict[str, Any]) -> float:
        return next((self.planned[log] for log in known["log"] if log in self.planned), _OTHER)
