"""The docs site: Markdown pages where they lie, and a page for each public name, made of its docstring.

`make docs` builds it into build/docs; a warning, such as a link that leads nowhere, is an error.
"""

import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import harp

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project, author, copyright = "harp", "the authors of harp", "2026, the authors of harp"
version = release = harp.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "myst_parser", "docstrings"]
exclude_patterns = ["_templates"]
templates_path = ["_templates"]
html_theme, html_title = "furo", f"harp {release}"
html_static_path, html_css_files = ["_static"], ["wide.css"]
html_copy_source = html_show_sourcelink = False
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]

# Docstrings are plain text in which `x` is code, not a reference.
default_role = "code"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
autosummary_generate = True
autosummary_imported_members = True


def notebooks(app: Sphinx) -> None:
    """Writes each tutorial as a notebook beside its page, to be downloaded from there."""
    import jupytext

    for page in sorted((HERE / "tutorials").glob("*.md")):
        if page.stem != "index":
            jupytext.write(jupytext.read(page), page.with_suffix(".ipynb"))


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", notebooks)
    return {"parallel_read_safe": True}
