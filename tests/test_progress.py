"""What a run prints: a line per job, how far it is and how long it will take."""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.common import LogEvent

import snakemake_logger_plugin_gradprop as plugin

SETTINGS: dict[str, Any] = {
    "printshellcmds": False,
    "nocolor": True,
    "quiet": {Quietness.RULES},
    "debug_dag": False,
    "verbose": False,
    "show_failed_logs": False,
    "stdout": False,
    "dryrun": False,
}
STATS = {"train": 2, "claims_tiny": 1, "total": 3}


class Run:
    """A run whose clock stands still, and what it prints."""

    def __init__(self, capsys: pytest.CaptureFixture[str], **settings: Any) -> None:
        self.capsys = capsys
        common: Any = SimpleNamespace(**{**SETTINGS, **settings})
        self.handler = plugin.LogHandler(common, None)

    def says(self, message: str | None, level: int = logging.INFO, **known: Any) -> str:
        record = logging.LogRecord("snakemake", level, "", 0, message, None, None)
        record.__dict__.update(known)
        self.handler.handle(record)
        return self.capsys.readouterr().err

    def begins(self, job: int, text: str, rule: str, *log: str) -> str:
        known: dict[str, Any] = {
            "jobid": job,
            "rule_msg": text,
            "rule_name": rule,
            "shellcmd": f"gradprop {rule}",
            "log": list(log),
        }
        return self.says("Rule", event=LogEvent.JOB_INFO, **known)

    def ends(self, job: int) -> str:
        return self.says(f"Finished jobid: {job}", event=LogEvent.JOB_FINISHED, job_id=job)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return a clock that stands at `now`."""
    found = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: found.now)
    return found


def test_every_job_is_one_line_with_what_is_left(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(capsys)
    assert run.says("gradprop: a plan", planned={"a.log": 40.0, "b.log": 160.0}) == (
        "gradprop: a plan\n"
    )
    assert run.says("Job stats: ...", event=LogEvent.RUN_INFO, stats=STATS) == ""
    assert run.begins(1, "Training A", "train", "a.log") == ""
    clock.now += 20  # twice as fast as planned
    left = (160 + 5) / 2
    assert run.ends(1) == f"[1 of 3, 0:00:20] Training A; about {left:.0f} s left\n"
    run.begins(2, "Training B", "train", "b.log")
    run.begins(3, "Claims", "claims_tiny")
    clock.now += 3600
    assert run.ends(3) == "[2 of 3, 1:00:20] Claims; about 3.6 h left\n"
    assert run.ends(2) == "[3 of 3, 1:00:20] Training B\n"


def test_a_failed_job_tells_its_log_once(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(capsys)
    run.says("Job stats: ...", event=LogEvent.RUN_INFO, stats=STATS)
    run.begins(1, "Training A", "train", "a.log")
    error: dict[str, Any] = {"level": logging.ERROR, "event": LogEvent.ERROR}
    assert run.says("RuleException: long", exception="RuleException", **error) == ""
    failed = {"event": LogEvent.JOB_ERROR, "jobid": 1, "rule_msg": None, "log": ["a.log"]}
    assert run.says("Error in rule train", logging.ERROR, **failed) == (
        "[0 of 3, 0:00:00] FAILED: Training A; log: a.log\n"
    )
    assert run.says("Command 'long'", exception="CalledProcessError", **error) == ""
    assert run.says("At least one job", exception="WorkflowError", **error) == (
        "gradprop: a job failed; 0 of 3 are done. What jobs had finished before they ended is "
        "kept. Mend the cause, and run the command again.\n"
    )


def test_a_job_that_is_tried_again_has_failed_once_or_not_at_all(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(capsys)
    run.says("Job stats: ...", event=LogEvent.RUN_INFO, stats=STATS)
    for job, log in ((1, "a.log"), (2, "b.log")):
        run.begins(job, f"Training {job}", "train", log)
        failed = {"event": LogEvent.JOB_ERROR, "jobid": job, "rule_msg": None, "log": [log]}
        for _ in range(3):
            assert "FAILED" in run.says("Error in rule train", logging.ERROR, **failed)
    assert run.ends(1) == "[1 of 3, 0:00:00] Training 1\n"  # and nobody knows what is left
    error: dict[str, Any] = {"event": LogEvent.ERROR, "exception": "WorkflowError"}
    assert "a job failed; 1 of 3" in run.says("At least one job", logging.ERROR, **error)


def test_a_group_is_one_line_with_the_cluster_s_log(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(capsys)
    run.says("Job stats: ...", event=LogEvent.RUN_INFO, stats=STATS)
    jobs: list[dict[str, Any]] = [{"jobid": job, "log": [f"{job}.log"]} for job in (1, 2)]
    for job in jobs:
        run.begins(job["jobid"], f"Training {job['jobid']}", "train", *job["log"])
    group = {"event": LogEvent.GROUP_ERROR, "job_error_info": jobs, "aux_logs": ["slurm.log"]}
    assert run.says("Error in group", logging.ERROR, **group) == (
        "[0 of 3, 0:00:00] FAILED: Training 1, Training 2; log: slurm.log, 1.log, 2.log\n"
    )
    for job in jobs:
        known = {"event": LogEvent.JOB_ERROR, "rule_msg": None, "indent": True, **job}
        assert run.says("Error in rule", logging.ERROR, **known) == ""


@pytest.mark.parametrize("how", plugin._STOPPED)
def test_a_run_that_the_user_ends_has_not_failed(
    how: str, clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(capsys)
    run.says("Job stats: ...", event=LogEvent.RUN_INFO, stats=STATS)
    run.begins(1, "Training A", "train", "a.log")
    assert run.says(f"{how}.") == f"{how}.\n"
    failed = {"event": LogEvent.JOB_ERROR, "jobid": 1, "rule_msg": None, "log": ["a.log"]}
    if how == plugin._STOPPED[0]:
        assert "stopped: Training A" in run.says("Error in rule train", logging.ERROR, **failed)
    error: dict[str, Any] = {"event": LogEvent.ERROR, "exception": "WorkflowError"}
    assert run.says("At least one job", logging.ERROR, **error) == (
        "gradprop: the run was stopped; 0 of 3 are done. What jobs had finished before they ended "
        "is kept. Run the command again.\n"
    )


def test_without_progress_nothing_is_counted(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Snakemake does not tell then which jobs have ended."""
    run = Run(capsys, quiet={Quietness.PROGRESS})
    run.says("Job stats: ...", event=LogEvent.RUN_INFO, stats=STATS)
    run.begins(1, "Training A", "train", "a.log")
    failed = {"event": LogEvent.JOB_ERROR, "jobid": 1, "rule_msg": None, "log": []}
    assert run.says("Error in rule train", logging.ERROR, **failed) == (
        "[0:00:00] FAILED: Training A\n"
    )


def test_what_is_not_known_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """An error before any job, a warning and a message of which nothing is known."""
    run = Run(capsys)
    error = {"event": LogEvent.ERROR, "exception": "WorkflowError"}
    assert run.says("No such file", logging.ERROR, **error) == "No such file\n"
    assert run.says("Beware", logging.WARNING) == "Beware\n"
    assert run.says("Nothing to be done (all ...)") == "Nothing to be done (all ...)\n"
    assert run.says("Select jobs to execute...") == ""
    assert run.says(None) == ""


def test_a_target_that_does_not_exist_is_named_with_those_that_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plugin, "TARGETS", ["reports/index.html", "verify", "study_tiny"])
    error = {"event": LogEvent.ERROR, "exception": "MissingRuleException"}
    message = "MissingRuleException:\nNo rule to produce {} (if you use input functions ...)."
    for name in ("study tiny", "study_tiyn"):
        assert Run(capsys).says(message.format(name), logging.ERROR, **error) == (
            f"gradprop: nothing makes {name!r}; allowed: reports/index.html, verify, study_tiny, "
            "and files that they need, such as reports/figures/<study>/<figure>.svg. "
            "Did you mean 'study_tiny'?\n"
        )


def test_quiet_leaves_errors(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(capsys, quiet={Quietness.ALL})
    run.says("Job stats: ...", event=LogEvent.RUN_INFO, stats=STATS)
    run.begins(1, "Training A", "train", "a.log")
    assert run.ends(1) == ""
    assert run.says("No such file", logging.ERROR) == "No such file\n"


def test_a_dry_run_is_a_line_for_every_job_and_their_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Jobs without a command, such as `all`, are none. Quiet or not: nothing else is asked for."""
    end = "This was a dry-run (flag -n). The order of jobs"
    for quiet in ({Quietness.RULES}, {Quietness.ALL}):
        run = Run(capsys, dryrun=True, quiet=quiet)
        assert run.says("Job stats: ...", event=LogEvent.RUN_INFO, stats=STATS) == ""
        assert run.begins(1, "Training A", "train", "a.log") == "Training A\n"
        assert run.ends(1) == ""
        assert run.begins(2, "Claims", "claims_tiny") == "Claims\n"
        all_there: dict[str, Any] = {"rule_msg": "All", "rule_name": "all", "shellcmd": None}
        assert run.says("Rule", event=LogEvent.JOB_INFO, **all_there) == ""
        assert run.says("Reasons:\n many") == ""
        assert run.says(end) == "This was a dry-run: 2 jobs would run, and nothing was changed.\n"
    error: dict[str, Any] = {"event": LogEvent.ERROR, "exception": "WorkflowError"}
    assert run.says("No such file", logging.ERROR, **error) == "No such file\n"


@pytest.mark.parametrize("option", ["verbose", "printshellcmds"])
def test_options_for_details_print_what_snakemake_prints(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(capsys, **{option: True})
    assert run.ends(1).splitlines()[1:] == ["Finished jobid: 1"]
    assert run.says("Select jobs to execute...") == "Select jobs to execute...\n"
