"""Names of a room, loaded when they are used; and what is said where torch is not there to load them with."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import harp
from harp.lazily import lazily

ROOMS = ("harp", "harp.graph", "harp.package", "harp.runtime")


@pytest.mark.parametrize("name", ROOMS)
def test_every_name_is_there(name):
    room = import_module(name)
    assert sorted(room.__all__) == sorted(dir(room))
    for public in room.__all__:
        assert getattr(room, public) is not None


@pytest.mark.parametrize("name", ROOMS)
def test_no_module_is_called_as_a_name_is(name):
    """It would take the name's place once something imports it."""
    room = import_module(name)
    assert room.__file__ is not None
    beside = {path.stem for path in Path(room.__file__).parent.iterdir()}
    assert beside & set(room.__all__) <= {"arena"}  # whose room has the function of that name


def test_names_are_read_of_the_stub(tmp_path, monkeypatch):
    (tmp_path / "lazy_room").mkdir()
    (tmp_path / "lazy_room" / "__init__.pyi").write_text("from .inner import (\n    one as one,\n    two as two,\n)\n")
    (tmp_path / "lazy_room" / "inner.py").write_text("one = 1\ntwo = 2\nhidden = 3\n")
    (tmp_path / "lazy_room" / "__init__.py").write_text(
        "from harp.lazily import lazily\n__getattr__, __dir__, __all__ = lazily(__name__, __file__)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    room = import_module("lazy_room")
    assert "lazy_room.inner" not in sys.modules
    assert (room.one, room.two, room.__all__) == (1, 2, ["one", "two"])
    with pytest.raises(AttributeError, match="module 'lazy_room' has no attribute 'hidden'"):
        _ = room.hidden
    assert lazily("lazy_room", room.__file__ or "")[2] == ["one", "two"]


BARE = """
import sys
sys.modules["torch"] = None
import harp
print(harp.load.__module__)
print(harp.Threat(eps="8/255"), harp.HarpError.__name__)
for name in ("fit", "nothing"):
    try:
        getattr(harp, name)
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_without_torch_there_is_what_runs_packages_and_a_sentence_on_all_else():
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=True)
    loads, threat, fit, nothing = done.stdout.splitlines()
    assert loads == "harp.deploy.network"
    assert threat == "L-inf, eps 8/255 HarpError"
    assert fit.startswith("ModuleNotFoundError harp.fit needs torch, which is not installed: without torch harp reads")
    assert nothing == "AttributeError module 'harp' has no attribute 'nothing'"


def test_beside_torch_the_whole_library_loads_packages():
    assert harp.load.__module__ == "harp.export.deployed"
