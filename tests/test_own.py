import sys

import pytest

from harp.errors import HarpError
from harp.own import is_gone, label_of, load_own, load_plugin


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a.py, which imports its neighbour beside_a; nothing of it stays loaded afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "beside_a.py").write_text("VALUE = 1\n")
    (tmp_path / "a.py").write_text("import beside_a\n\n\nclass Made:\n    value = beside_a.VALUE\n")
    yield tmp_path
    sys.modules.pop("beside_a", None)


def made(folder):
    return load_own(f"{folder}/a.py:Made", "thing")


def test_a_neighbour_is_found_and_a_class_is_the_same_each_time(here):
    assert made(here).value == 1
    assert made(here) is made(here)


def test_an_edit_of_the_neighbour_is_seen(here):
    before = made(here)
    (here / "beside_a.py").write_text("VALUE = 22\n")
    assert made(here).value == 22
    assert before.value == 1


def test_a_neighbour_whose_name_is_taken_is_refused(here, tmp_path):
    made(here)
    other = tmp_path / "other"
    other.mkdir()
    (other / "beside_a.py").write_text("VALUE = 3\n")
    (other / "a.py").write_text((here / "a.py").read_text())
    with pytest.raises(HarpError, match=r"a\.py imports beside_a, which would be .*beside_a\.py and not .*other"):
        made(other)


def test_so_is_one_named_like_a_library(here):
    (here / "json.py").write_text("raise RuntimeError('not me')\n")
    (here / "b.py").write_text("def one():\n    import json\n    return json.dumps(1)\n")
    with pytest.raises(HarpError, match=r"b\.py imports json, which would be .*json\.py"):
        load_own(f"{here}/b.py:one", "thing")


def test_what_something_is_called():
    assert label_of("folder/net.py:make") == "make"
    assert label_of("resnet18") == "resnet18"
    assert is_gone("nowhere/net.py:make")
    assert not is_gone("resnet18")


def test_a_plugin_is_a_file_or_a_module(here):
    load_plugin(str(here / "a.py"))
    load_plugin("json")
    with pytest.raises(HarpError, match="plugins: no_such_module cannot be imported: ModuleNotFoundError"):
        load_plugin("no_such_module")


def test_an_edit_within_a_second_that_keeps_the_size_is_seen_in_the_file_and_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for value in "123":
        (tmp_path / "beside_it.py").write_text(f"value = {value}\n")
        (tmp_path / "quick.py").write_text(f"from beside_it import value\n\ndef make():\n    return {value}, value\n")
        assert load_own(f"{tmp_path / 'quick.py'}:make", "model")() == (int(value), int(value))
