"""The pages that tell what a run did."""

from harp.pipeline.workspace import Workspace
from harp.report import write_report


def report(work: Workspace) -> None:
    """report.html and report.md from what the other stages recorded."""
    write_report(work.run.folder)
