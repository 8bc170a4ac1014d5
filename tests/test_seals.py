import json

import pytest

from harp.errors import HarpError
from harp.runs import read_json, write_json
from harp.seals import read_sealed, write_sealed

VALUES = {"robust": 0.25, "notes": ["slow"]}


@pytest.fixture
def sealed(tmp_path):
    for name in ("asked.json", "pgd-00000.safetensors"):
        (tmp_path / name).write_bytes(name.encode())
    write_sealed(tmp_path / "result.json", VALUES, ["asked.json", "pgd-00000.safetensors"])
    return tmp_path / "result.json"


def test_what_nobody_touched_is_read(sealed):
    (sealed.parent / "notes.txt").write_text("mine")  # of no concern to the result
    assert read_sealed(sealed) == VALUES


def test_a_seal_is_of_the_values_not_of_their_layout(sealed):
    sealed.write_text(json.dumps(read_json(sealed)))
    assert read_sealed(sealed) == VALUES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: write_json(path, {**read_json(path), "robust": 0.5}), "result.json was changed after"),
        (lambda path: write_json(path, {**read_json(path), "more": 1}), "result.json was changed after"),
        (lambda path: write_json(path, VALUES), "carries no seal"),
        (lambda path: write_json(path, {**VALUES, "seal": []}), "carries no seal"),
        (lambda path: write_json(path, None), "carries no seal"),
        (lambda path: (path.parent / "asked.json").write_text("other"), "asked.json was changed after"),
        (lambda path: (path.parent / "asked.json").unlink(), "asked.json is gone"),
        (lambda path: (path.parent / "x.safetensors").write_text(""), "x.safetensors is no part of"),
        (lambda path: path.write_text("{"), "not readable JSON"),
        (lambda path: path.unlink(), "no file"),
    ],
)
def test_what_was_changed_since_is_named(sealed, change, message):
    change(sealed)
    with pytest.raises(HarpError, match=message) as told:
        read_sealed(sealed)
    assert str(sealed.parent) in str(told.value)
