import errno
import json
import os
from dataclasses import dataclass

import pytest

from harp.errors import HarpError
from harp.files import DamagedError, checked, read_json, remove, write_atomic, write_json


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_kill_while_writing_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, call, killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    write_atomic(path, b"newer")
    assert path.read_bytes() == b"newer"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    calls = []
    sync, replace = os.fsync, os.replace

    def noted(name, call):
        def noting(*given):
            calls.append(name)
            call(*given)

        monkeypatch.setattr(os, name, noting)

    noted("fsync", sync)
    noted("replace", replace)
    write_atomic(tmp_path / "deep" / "file", b"new")
    assert calls == ["fsync", "replace", "fsync"]
    assert (tmp_path / "deep" / "file").read_bytes() == b"new"


def test_json_comes_back(tmp_path):
    write_json(tmp_path / "j", {"a": [1, 0.1, None]})
    assert read_json(tmp_path / "j") == {"a": [1, 0.1, None]}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_holds_no_nan(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "j", {"accuracy": value})
    assert not (tmp_path / "j").exists()


def test_unreadable_json_is_refused(tmp_path):
    with pytest.raises(HarpError, match="no file"):
        read_json(tmp_path / "none")
    (tmp_path / "cut").write_text('{"a": ')
    with pytest.raises(HarpError, match="is not readable JSON"):
        read_json(tmp_path / "cut")


REFUSED = {
    errno.ENOSPC: r"no space left on device \(3 bytes needed, [\d,]+ free\); make room and run the same command again",
    errno.EDQUOT: r"\(3 bytes needed, [\d,]+ free\); make room",
    errno.EROFS: "read-only file system; give yourself the right to write there, or choose another folder",
    errno.EIO: "input/output error$",
}


@pytest.mark.parametrize("number", REFUSED)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_what_the_disk_refuses_is_a_sentence_and_leaves_what_was_there(tmp_path, monkeypatch, call, number):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(*arguments):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(HarpError, match=rf"^cannot write {path}: .*{REFUSED[number]}"):
            write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


def test_paths_that_cannot_be_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path, words in (
        (tmp_path / "file" / "below", "choose another path"),
        (tmp_path / "folder", "is a directory; choose another path"),
        (tmp_path / ("x" * 300), "choose a shorter name"),
    ):
        with pytest.raises(HarpError, match=f"^cannot write {path}: .*{words}"):
            write_atomic(path, b"new")
    with pytest.raises(HarpError, match="is a directory"):
        remove(tmp_path / "folder")
    remove(tmp_path / "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@dataclass
class Point:
    x: int
    name: str | None = None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("null", "expected values by name, got None"),
        ("[1]", r"expected values by name, got \[1\]"),
        ("{}", "it lacks x"),
        ('{"x": "one"}', "x: input should be a valid integer, .*, got 'one'"),
        ('{"x": 1, "name": 2}', "name: input should be a valid string, got 2"),
    ],
)
def test_a_value_of_another_type_is_refused_with_the_way_out(tmp_path, text, words):
    path = tmp_path / "run" / "2-prune" / "point.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(
        DamagedError, match=rf"^{path} is damaged or of another version: {words}; bring back a whole copy$"
    ):
        read_json(path, Point)
    (tmp_path / "run" / "recipe.yaml").write_text("seed: 0")
    with pytest.raises(
        DamagedError, match=f"; bring back a whole copy, or delete {path.parent} and run the same command"
    ):
        read_json(path, Point)


def test_a_value_of_the_type_comes_back_as_it_is_or_as_an_instance(tmp_path):
    write_json(tmp_path / "j", {"x": 1, "more": 2})
    assert read_json(tmp_path / "j", Point) == {"x": 1, "more": 2}
    assert checked(tmp_path / "j", {"x": 1, "more": 2}, Point) == Point(1)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "[" * 100_000, "1" * 5_000, json.dumps("ä")[:-1]])
def test_what_only_python_calls_json_is_refused(tmp_path, text):
    (tmp_path / "j").write_text(text)
    with pytest.raises(DamagedError, match="is not readable JSON"):
        read_json(tmp_path / "j")
