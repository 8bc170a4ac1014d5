"""Pages made of templates: what all of them share."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_HERE = Path(__file__).parent


def environment(folder: Path = _HERE, **options: Any) -> Environment:
    """Templates of a folder, in which a name that nobody gave is an error and text is never taken for tags."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )


def look() -> dict[str, Markup]:
    """What a page takes along, for it fetches nothing: its `css`, and the `script` that orders tables."""
    return {name: Markup((_HERE / file).read_text()) for name, file in (("css", "page.css"), ("script", "sort.js"))}
