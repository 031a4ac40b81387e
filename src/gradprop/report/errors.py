"""Errors of the report."""

from __future__ import annotations

from gradprop.errors import GradpropError


class ReportError(GradpropError):
    """The report can't be written; the message says what is missing and how to make it."""


class StudyChangedError(ReportError):
    """A study's own prose speaks of what the study, as it was changed, does not measure."""
