"""The report of a run: one HTML page with scores, pictures, config and versions."""

from vice.report.page import Picture, Section, write_report

__all__ = ["Picture", "Section", "write_report"]
