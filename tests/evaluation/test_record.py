"""What happens to the files of a record between two calls."""

import shutil

import pytest
import torch

from harp.attacks import ATTACKS
from harp.errors import HarpError
from harp.evaluation import evaluate, rejudge
from harp.evaluation.record import FORMAT, Record
from harp.runs import load_tree, read_json, save_tree, write_json
from harp.threats import Threat
from tests.attacks.linear import images, labels, linear

MODEL, THREAT = linear(bias=0.3).eval(), Threat(eps=0.02)
BATCHES = [(images(64)[:32], labels(64)[:32]), (images(64)[32:], labels(64)[32:])]
ATTACKS_ASKED = {name: ATTACKS["fgsm"]() for name in ("a", "b")}


def measured(folder, seed=0):
    return evaluate(MODEL, BATCHES, ATTACKS_ASKED, THREAT, seed, folder=folder)


@pytest.fixture
def record(tmp_path):
    measured(tmp_path / "record")
    return tmp_path / "record"


def file(folder, measure, index=0):
    return folder / f"{measure}-{index:05d}.safetensors"


def rewrite(path, **values):
    save_tree(path, {**load_tree(path), **values})


def swap(one, other):
    one.rename(one.with_suffix(".away"))
    other.rename(one)
    one.with_suffix(".away").rename(other)


def flags(folder):
    rewrite(file(folder, "a"), right=torch.ones(32, dtype=torch.bool))


def adversarial(folder):
    rewrite(file(folder, "a"), adv=load_tree(file(folder, "a"))["adv"] * 0)


def notes(folder):
    rewrite(file(folder, "b"), notes=["all is well"])


def logits(folder):
    rewrite(file(folder, "clean"), logits=torch.zeros(16, 2))


def measures(folder):
    swap(file(folder, "a"), file(folder, "b"))


def places(folder):
    swap(file(folder, "a", 0), file(folder, "a", 1))


def elsewhere(folder):
    measured(folder.parent / "other", seed=1)
    shutil.copy(file(folder.parent / "other", "a"), file(folder, "a"))


def stamp(folder):
    tree = load_tree(file(folder, "a"))
    del tree["stamp"]
    save_tree(file(folder, "a"), tree)


def byte(folder):
    data = bytearray(file(folder, "a").read_bytes())
    data[-1] ^= 1
    file(folder, "a").write_bytes(bytes(data))


TAMPERED = [flags, adversarial, notes, logits, measures, places, elsewhere, stamp, byte]


@pytest.mark.parametrize("tamper", TAMPERED, ids=lambda done: done.__name__)
def test_a_file_that_is_not_what_was_recorded_is_refused(record, tamper):
    tamper(record)
    for again in (lambda: measured(record), lambda: rejudge(MODEL, BATCHES, record)):
        with pytest.raises(HarpError) as told:
            again()
        assert str(record) in str(told.value)
        assert "\n" not in str(told.value)


def test_what_was_asked_cannot_be_changed_on_paper(record):
    write_json(record / "asked.json", {**read_json(record / "asked.json"), "threat": repr(Threat(eps=0.03))})
    with pytest.raises(HarpError, match="not what this evaluation wrote there"):
        evaluate(MODEL, BATCHES, ATTACKS_ASKED, Threat(eps=0.03), folder=record)


@pytest.mark.parametrize("asked", [{}, {"format": 1}, None, []])
def test_a_record_of_another_form_is_refused_once(record, asked):
    write_json(record / "asked.json", asked)
    with pytest.raises(HarpError, match="in another form; choose another folder"):
        measured(record)


def test_what_is_put_is_got(tmp_path):
    tensors = {"right": torch.tensor([True, False]), "empty": torch.zeros(0, 3), "far": torch.tensor(torch.inf)}
    tree = {**tensors, "notes": ["x"]}
    for record in (Record(tmp_path / "new", {"seed": 0}), Record(None, {"seed": 0})):
        assert record.get("a", 0) is None
        record.put("a", 0, tree)
        found = record.get("a", 0)
        assert found is not None
        assert found["notes"] == ["x"]
        assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert read_json(tmp_path / "new" / "asked.json") == {"format": FORMAT, "seed": 0}
