"""Adversarial images of a record as a file for numpy: whose they are, that they break, that they lie within."""

import math

import numpy
import pytest
import torch

import harp
from harp.errors import HarpError
from harp.evaluation import Record, save_images, saved
from harp.runs import load_tree
from tests.evaluation.defences import dense

THREAT = harp.Threat(eps=0.3)
ATTACKS = {"fgsm": harp.ATTACKS["fgsm"](), "pgd": harp.PGD(steps=3)}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return dense(16).eval()


@pytest.fixture
def batches(model):
    """Two batches; of the first image the label is one that the network does not give."""
    x = torch.rand(20, 1, 8, 8)
    y = model(x).argmax(1)
    y[0] = (y[0] + 1) % 10
    return [(x[:12], y[:12]), (x[12:], y[12:])]


def evaluated(folder, model, batches, attacks=ATTACKS, threat=THREAT):
    return harp.evaluate(model, batches, attacks, threat, folder=folder / "record")


def test_a_file_holds_the_nearest_image_of_each_point(tmp_path, model, batches):
    found = evaluated(tmp_path, model, batches)
    path, index = tmp_path / "new" / "images.npz", torch.arange(20) + 100
    count = save_images(path, tmp_path / "record", batches, THREAT, index)
    with numpy.load(path, allow_pickle=False) as file:
        kept = {name: file[name] for name in file.files}
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert kept["labels"].tolist() == y.tolist()
    assert kept["index"].tolist() == index.tolist()
    assert kept["clean"].tolist() == found.flags["clean"].tolist()
    assert kept["right"].tolist() == found.flags["worst"].tolist()
    assert (kept["norm"], kept["eps"], kept["low"], kept["high"]) == (math.inf, 0.3, 0, 1)
    assert str(kept["model"]) == Record(tmp_path / "record", None).asked["model"]
    adv = torch.from_numpy(kept["images"])
    broken = torch.from_numpy(~kept["right"] & kept["clean"])
    assert count == int(broken.sum()) > 10
    assert (model(adv).argmax(1) != y)[broken].all()
    assert torch.equal(adv[~broken], x[~broken])
    # The distance is the least of all attacks', and that of the very image; both attacks won somewhere.
    trees = {name: [load_tree(tmp_path / "record" / f"{name}-0000{n}.safetensors") for n in (0, 1)] for name in ATTACKS}
    least = torch.where(found.flags["clean"], math.inf, 0.0)
    for parts in trees.values():
        for first, tree in zip((0, 12), parts, strict=True):
            rows = tree["places"] + first
            least[rows] = torch.minimum(least[rows], tree["distance"])
    assert kept["distance"].tolist() == least.tolist()
    assert torch.allclose(THREAT.distance(adv, x)[broken], least[broken])
    assert kept["broken_by"][0] == "clean"
    assert {*kept["broken_by"][broken]} <= ATTACKS.keys()
    assert {*kept["broken_by"][kept["right"]]} <= {""}


def test_the_same_record_gives_the_same_bytes(tmp_path, model, batches):
    evaluated(tmp_path, model, batches)
    for name in ("a.npz", "b.npz"):
        save_images(tmp_path / name, tmp_path / "record", batches, THREAT, torch.arange(20))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_an_image_outside_the_threat_leaves_no_file(tmp_path, model, batches, monkeypatch):
    evaluated(tmp_path, model, batches)
    write = saved._write_images

    def shifted(member, record, batches, table):
        write(member, record, [(x + 0.31, y) for x, y in batches], table)

    monkeypatch.setattr(saved, "_write_images", shifted)
    with pytest.raises(HarpError, match=r"image 0 lies outside L-inf, eps 0\.3 by"):
        save_images(tmp_path / "images.npz", tmp_path / "record", batches, THREAT, torch.arange(20))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["record"]


def test_other_images_another_threat_and_no_record_are_refused(tmp_path, model, batches):
    evaluated(tmp_path, model, batches)
    out, record, index = tmp_path / "images.npz", tmp_path / "record", torch.arange(20)
    with pytest.raises(HarpError, match="no finished record of these images"):
        save_images(out, record, [(x * 0.5, y) for x, y in batches], THREAT, index)
    with pytest.raises(HarpError, match=r"expected Threat\(norm=inf, eps=0\.2"):
        save_images(out, record, batches, harp.Threat(eps=0.2), index)
    with pytest.raises(HarpError, match="index has 3 places; expected 20"):
        save_images(out, record, batches, THREAT, torch.arange(3))
    with pytest.raises(HarpError, match=r"no file .*asked\.json"):
        save_images(out, tmp_path / "gone", batches, THREAT, index)
    assert not out.exists()
