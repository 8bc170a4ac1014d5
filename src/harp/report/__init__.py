"""One page that tells what a run did, made from its recorded results alone."""

from pathlib import Path

__all__ = ["PAGES", "REPORT", "write_report"]

REPORT = "report.html"
PAGES = (REPORT, "report.md")


def write_report(folder: Path) -> Path:
    """The path of `report.html`, written with `report.md` beside it into the run directory `folder`.

    Both are made from the files that the stages recorded there and from nothing else, so the same files
    give the same bytes. The HTML is one file without scripts that fetches nothing. Raises `HarpError` that
    names the command to run first where a record is missing, and the folder where a record is damaged.
    """
    # matplotlib takes about a second to import, and only a report needs it.
    from harp.report.page import write_pages

    return write_pages(folder)
