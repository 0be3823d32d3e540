"""Checks of a dataset before it is used: images, labels, copies, proposals."""

from .split_checks import CheckReport, LabelStatistics, check_datasets, report_text

__all__ = ["CheckReport", "LabelStatistics", "check_datasets", "report_text"]
