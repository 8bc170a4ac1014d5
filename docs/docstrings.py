"""How docstrings become pages: plain text in which `x` is code, the names in a registry listed."""

import re
from typing import Any

from pydantic import BaseModel
from sphinx.application import Sphinx

from harp.registry import Registry

CODE = re.compile(r"(`[^`]*`)")


def plain(text: str) -> str:
    """The line as reStructuredText that shows it as it stands: |w| and *weight are no markup there."""
    return "".join(part if part.startswith("`") else re.sub(r"([*|]|_\b)", r"\\\1", part) for part in CODE.split(text))


def prepare(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """A registry's own docstring gives way to the names in it, each with the first line of its own."""
    if isinstance(found, Registry):
        lines[:] = [f"Every {found.kind} that a recipe can name: a mapping from name to what makes it.", ""]
        lines += [f"- `{entry}`: {found.summary(entry)}" for entry in found] + [""]
    lines[:] = [plain(line) for line in lines]


def leave_out(app: Sphinx, what: str, name: str, found: Any, skip: bool, options: Any) -> bool | None:
    """Leaves out what pydantic puts into every model."""
    return True if name.startswith("model_") and hasattr(BaseModel, name) else None


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", prepare)
    app.connect("autodoc-skip-member", leave_out)
    return {"parallel_read_safe": True}
