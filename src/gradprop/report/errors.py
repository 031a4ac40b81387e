"""Errors of the report."""

from __future__ import annotations

from gradprop.errors import GradpropError


class ReportError(GradpropError):
    """The report can't be written; the message says what is missing and how to make it."""


class StudyChangedError(ReportError):
    """A study's own prose speaks of a number or a figure that the study does not have."""
