"""The docs: every block runs, every public name has a page, and what pages say of the source is so."""

import ast
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import harp
from harp.config import RECIPES, make_recipe, read_recipe
from harp.registry import Registry
from harp.threats import exact
from tests.pages import CODE, PAGES, ROOT, blocks, run_page

DOCS = ROOT / "docs"
NAMES: list[str] = vars(harp)["__all__"]
KINDS = (*CODE, "text", "", "{toctree}", "{eval-rst}", "html", "json")
RUNNING = [page for page in PAGES if any(block.kind in CODE and block.why is None for block in blocks(page))]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", [page for page in RUNNING if page.name != "README.md"], ids=lambda page: page.stem)
def test_every_block_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    scope: dict[str, Any] = {"__name__": "__page__"}
    try:
        assert run_page(page, scope)
    finally:
        # Files of the page, which another page may have under the same name.
        for name in set(sys.modules) - before:
            if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_says_what_it_is(page):
    for block in blocks(page):
        assert block.kind in KINDS, f"{page}:{block.line}: {block.kind!r} is none of {KINDS}"
        if block.why is None and block.kind in ("yaml", "toml"):
            assert block.file, f"{page}:{block.line}: begins with the name of its file, or is marked as not run"


def test_every_public_name_has_a_page():
    stub = ast.parse((ROOT / "src" / "harp" / "__init__.pyi").read_text())
    public = {
        alias.asname or alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert public == set(NAMES)
    listed = re.findall(r"^   (\w+)$", (DOCS / "api.md").read_text(), flags=re.MULTILINE)
    assert sorted(listed) == sorted(public)


def test_every_public_name_says_what_it_is():
    for name in NAMES:
        found = getattr(harp, name)
        # An instance has its class's word, and a registry's page is the list of its names.
        assert isinstance(found, Registry) or (found.__doc__ or "").strip(), name


@cache
def templates() -> list[str]:
    """Every text in the source, a null byte for each place that is filled in."""
    found = []
    for path in (ROOT / "src" / "harp").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def quoted() -> list[str]:
    return re.findall(r"^### `(.+)`$", (DOCS / "troubleshooting.md").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("message", quoted())
def test_every_quoted_message_is_in_the_source(message):
    parts = [re.escape(part) for part in message.split("...") if part]
    pattern = re.compile(".*".join(parts), flags=re.DOTALL)
    # The null byte: pieces of the message are the source's own words, and what is between them is filled in.
    assert any(pattern.search(text) for text in templates())


def test_there_are_messages():
    assert len(quoted()) > 25


def test_the_table_of_recipes_is_that_of_the_files():
    rows = re.findall(r"^\| `([\w-]+)` \| (.+) \|$", (DOCS / "recipes.md").read_text(), flags=re.MULTILINE)
    told = {name: cells.split(" | ") for name, cells in rows if (RECIPES / f"{name}.yaml").exists()}
    made = {}
    for path in RECIPES.glob("*.yaml"):
        recipe = make_recipe(read_recipe(path))
        eps, keep = exact(recipe.threat.eps), f"{recipe.prune.keep:g}"
        made[path.stem] = [recipe.data.name, recipe.model.name, eps, keep, recipe.pretrain.objective]
    assert told == made


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert Path(ROOT, link).exists(), link


def test_notebooks_have_the_code_of_their_pages():
    jupytext = pytest.importorskip("jupytext")
    for page in (DOCS / "tutorials").glob("*.md"):
        cells = [cell.source for cell in jupytext.read(page).cells if cell.cell_type == "code"]
        own = [block.text.strip() for block in blocks(page) if block.kind == "python"]
        assert cells == own
