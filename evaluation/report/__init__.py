"""A report of results: one page that a browser shows without a server or a network."""

from evaluation.report.write import write_report

__all__ = ["write_report"]
