import functools
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from harp.sources import edited, source_digests, written_in

NET = "import layers\nfrom torch import nn\n\ndef make():\n    return nn.Linear(1, 1)\n"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    folder = tmp_path / "nets"
    folder.mkdir()
    (folder / "net.py").write_text(NET)
    (folder / "layers.py").write_text("SIZE = 3\n")
    (folder / "unused.py").write_text("SIZE = 4\n")
    return folder


def names(folder, file="net.py"):
    return list(source_digests([folder / file], folder))


def test_a_file_and_what_it_imports_from_its_tree_are_named(home):
    assert names(home) == ["layers.py", "net.py"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import torch, os.path, numpy, harp\n", ["net.py"]),
        ("def later():\n    from layers import SIZE\n", ["layers.py", "net.py"]),
        ("import blocks.deep\n", ["blocks/__init__.py", "blocks/deep.py", "blocks/wide.py", "net.py"]),
        ("from blocks import deep\n", ["blocks/__init__.py", "blocks/deep.py", "blocks/wide.py", "net.py"]),
        ("import gone\n", ["net.py"]),
        ("def broken(:\n", ["net.py"]),
        ("import net\n", ["net.py"]),
    ],
)
def test_imports_are_followed_into_packages_and_not_into_libraries(home, text, expected):
    (home / "blocks").mkdir()
    (home / "blocks" / "__init__.py").write_text("")
    (home / "blocks" / "deep.py").write_text("from . import wide\n")
    (home / "blocks" / "wide.py").write_text("from .deep import nothing\nfrom ..... import above\n")
    (home / "net.py").write_text(text)
    assert names(home) == expected


def test_a_module_is_found_along_the_path_of_the_working_directory(home, monkeypatch):
    (home.parent / "shared.py").write_text("")
    (home / "net.py").write_text("import shared\n")
    assert names(home) == ["net.py"]
    monkeypatch.syspath_prepend(str(home.parent))
    assert names(home) == ["../shared.py", "net.py"]


def test_a_package_beside_that_of_the_file_is_the_users_too(home, monkeypatch):
    for package in ("one", "two"):
        (home / package).mkdir()
        (home / package / "__init__.py").write_text("")
    (home / "one" / "net.py").write_text("from two import x\n")
    (home / "two" / "x.py").write_text("")
    (home / "away").mkdir()
    monkeypatch.chdir(home / "away")
    monkeypatch.syspath_prepend(str(home))
    assert names(home, "one/net.py") == ["one/net.py", "two/__init__.py", "two/x.py"]


def test_a_loaded_module_is_the_file_it_was_loaded_from(home):
    other = home / "elsewhere" / "layers.py"
    other.parent.mkdir()
    other.write_text("")
    sys.modules["layers"] = type(sys)("layers")
    sys.modules["layers"].__file__ = str(other)
    assert names(home) == ["elsewhere/layers.py", "net.py"]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (NET, True),
        (NET.replace("\n", "\r\n"), True),
        ("# a word\n\n" + NET.replace("import layers\n", "import layers  # theirs\n"), True),
        (NET.replace("1, 1", "1, 2"), False),
        (NET.replace("    return", "\treturn"), False),
        (NET + '"""\n\n# text"""\n', False),
    ],
)
def test_comments_and_blank_lines_change_no_digest(home, text, same):
    before = source_digests([home / "net.py"], home)
    (home / "net.py").write_bytes(text.encode())
    assert (source_digests([home / "net.py"], home) == before) is same
    assert edited(before, home) == ([] if same else ["net.py"])


def test_lines_within_a_text_count(home):
    (home / "net.py").write_text('X = """\n\n# a\n"""\n')
    before = source_digests([home / "net.py"], home)
    (home / "net.py").write_text('X = """\n"""\n')
    assert edited(before, home) == ["net.py"]


def test_an_edited_import_and_one_that_is_gone_are_named(home):
    before = source_digests([home / "net.py"], home)
    (home / "layers.py").write_text("SIZE = 5\n")
    assert edited(before, home) == ["layers.py"]
    (home / "layers.py").unlink()
    assert edited(before, home) == ["layers.py"]


class Own(nn.Module):
    def method(self):
        pass


def test_objects_are_written_where_their_classes_are():
    here = [Path(__file__).resolve()]
    assert written_in(nn.Sequential(nn.Linear(1, 1), Own())) == here
    assert written_in(functools.partial(Own().method)) == here
    assert written_in(lambda x: x, Own) == here
    assert written_in(nn.Linear(1, 1), len, "text", None) == []


def test_what_was_typed_in_is_written_nowhere():
    space: dict[str, Any] = {"__name__": "typed"}
    exec("def f(x): return x\nclass C: pass", space)
    assert written_in(space["f"], space["C"]()) == []
