"""A zoo of one network, made here, and the one that ships."""

import io
from contextlib import redirect_stdout

import pytest
import torch
from torch import nn

import harp
import harp.networks.named
import harp.zoo.catalogue
from harp.cli import main
from harp.errors import HarpError
from harp.export import Rebuilt
from harp.package import read
from harp.runs import file_digest, read_json, write_json
from harp.zoo import FOLDER, Card, enter, find, in_words, names, repeats

QUICK = {"attacks": ["fgsm"], "engine": None, "images": 40, "doubts": 0}
THREAT = {"norm": "inf", "eps": 0.1}
SETTINGS = {"seed": 0, "threads": 1, "data": {"name": "digits"}, "threat": THREAT, "evaluation": QUICK}


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A folder with the network "small", whose card says what `harp evaluate` found."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 10)).eval()
    path = tmp_path / "p.safetensors"
    made = harp.pack(model, torch.rand(4, 1, 8, 8), path)
    folder = tmp_path / "zoo"
    folder.mkdir()
    monkeypatch.setattr(harp.networks.named, "find", lambda name: find(name, folder))
    monkeypatch.chdir(tmp_path)
    # The first evaluation, from which the card is written, knows of no measures yet.
    cell = {"accuracy": 0.5, "low": 0.4, "high": 0.6, "n": 40}
    blank = {"measures": {"clean": cell, "worst": cell}, "threat": {"norm": "inf", "eps": "0.1"}}
    card = Card(method="none", keep=1, settings=SETTINGS, result=blank, counts={}, bytes=made.sizes.bytes, source={})
    enter("small", path.read_bytes(), card, folder)
    evaluated()
    result = read_json(tmp_path / "record" / "result.json")
    enter("small", path.read_bytes(), card.model_copy(update={"result": result}), folder)
    return folder


def evaluated(*more):
    said = io.StringIO()
    with redirect_stdout(said):
        main(["evaluate", "zoo:small", "--folder", "record", *more])
    return " ".join(said.getvalue().split())


def test_a_network_repeats_its_number(zoo):
    assert "the zoo's card says the same, measure by measure and class by class, of 40 images" in evaluated()
    other = evaluated("--threat.eps", "0.05", "--folder", "other")
    assert "card" not in other


def test_another_number_is_told(zoo):
    card = find("small", zoo).card
    classes = {label: dict(row) for label, row in card.result["classes"].items()}
    classes["0"]["clean"] += 2
    (said,) = repeats(card, {**card.result, "classes": classes})
    assert said == "the zoo's card says otherwise: the counts by class and measure are off by 2 in all"


def test_it_is_loaded_with_gradients(zoo):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    model = harp.load_model("zoo:small")
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    x = torch.rand(3, 1, 8, 8, requires_grad=True)
    (grad,) = torch.autograd.grad(model(x).sum(), x)
    assert grad.abs().sum() > 0
    assert torch.allclose(model(x.detach()), harp.load(zoo / "small.safetensors")(x.detach()), atol=1e-5)


@pytest.mark.parametrize("file", ["small.safetensors", "small.json"])
def test_a_changed_file_is_refused(zoo, file):
    path = zoo / file
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(HarpError, match=f"{file} is not the file that the zoo's digests are of"):
        harp.load_model("zoo:small")


def test_an_unknown_name_gets_the_nearest(zoo):
    with pytest.raises(HarpError, match="no network 'smal' in the zoo; did you mean 'small'"):
        harp.load_model("zoo:smal")


def test_what_ships_is_whole_and_small(capsys):
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_500_000
    assert len(names()) >= 3
    for name in names():
        entry = find(name)
        manifest, worst = read(entry.path).manifest, entry.card.result["measures"]["worst"]
        assert (vars(manifest.counts), entry.path.stat().st_size) == (entry.card.counts, entry.card.bytes)
        assert not worst.get("doubts")
        assert f"{100 * worst['accuracy']:.1f} %" in in_words(entry.card)
    main(["list", "zoo"])
    assert names()[0] in capsys.readouterr().out


def test_a_network_that_ships_is_an_ordinary_module():
    model = harp.load_model(f"zoo:{names()[0]}")
    assert isinstance(model, Rebuilt)
    with torch.no_grad():
        assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    sites = harp.find_sites(model)
    pruner = harp.Masked(sites, harp.Masks({site.name: site.param.detach() != 0 for site in sites}))
    batch = (torch.rand(4, 3, 32, 32), torch.arange(4))
    before = [site.param.detach().clone() for site in sites]
    optimizer = harp.sgd(model, pruner, lr=0.01)
    harp.fit(model, [batch], objective=harp.Natural(), optimizer=optimizer, pruner=pruner, until=1)
    assert all(bool((site.param == 0)[old == 0].all()) for site, old in zip(sites, before, strict=True))
    assert any(bool((site.param != old).any()) for site, old in zip(sites, before, strict=True))


def test_digests_are_of_the_files(zoo):
    digests = read_json(zoo / "digests.json")
    assert digests == {file: file_digest(zoo / file) for file in ("small.json", "small.safetensors")}
    write_json(zoo / "digests.json", {})
    assert names(zoo) == []
