"""A hunt's report, one HTML file: :class:`Findings` takes the hits, :func:`write_report` writes what it kept."""

from keytrail.report.findings import Findings
from keytrail.report.page import About, render, write_report

__all__ = ["About", "Findings", "render", "write_report"]
