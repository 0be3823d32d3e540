"""Looking a dataset over before it is used: images, labels, copies, proposals."""

from .findings import SEVERITIES, Finding
from .report import CheckReport, SplitReport, check_datasets
from .text import report_text

__all__ = ["SEVERITIES", "CheckReport", "Finding", "SplitReport", "check_datasets", "report_text"]
