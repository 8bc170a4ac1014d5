"""One call on digits: budgets to the weight, every method that begins dense, kills, and what is refused."""

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import harp
from harp.data import load
from harp.errors import HarpError
from harp.evaluation import summary
from harp.pruners import METHODS, begins_untrained
from harp.runs import digest

DIGITS = load("digits")
QUICK = {"epochs": 1, "eps": 0.1, "attack": {"steps": 1}, "evaluation": {"attacks": ["fgsm"], "doubts": 0}}
CHANNELS = {"l1-filters", "anp-vs"}  # methods of channels alone
DENSE = sorted(name for name in METHODS if not begins_untrained(name, {}))
USUAL = {"hydra", "magnitude", "l1-filters", "feather"}


def batches(images, n, size=32):
    x, y = images.images[:n] / 255, images.labels[:n]
    return list(zip(x.split(size), y.split(size), strict=True))


def network():
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12), nn.ReLU())
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(12 * 16, 10))


@pytest.fixture(scope="module")
def trained():
    model = network()
    pruner = harp.Pruner(harp.find_sites(model))
    optimizer = harp.sgd(model, pruner, lr=0.1)
    objective = harp.PGDAT(harp.PGD(steps=1), harp.Threat(eps=0.1))
    harp.fit(model, batches(DIGITS.train, 320), objective=objective, optimizer=optimizer, pruner=pruner, until=60)
    return model.eval()


def pruned(model, keep=0.1, **options):
    loader = options.pop("loader", batches(DIGITS.train, 96))
    return harp.prune(model, loader, keep, test=batches(DIGITS.test, 64), **{**QUICK, **options})


def test_what_comes_out_meets_the_budget_and_the_model_stays_as_it_is(trained):
    before = digest(trained.state_dict())
    found = pruned(trained, 0.1)
    total = 72 + 864 + 1920
    assert (found.kept, found.total) == (round(0.1 * total), total)
    assert sum(int(found.model.get_parameter(name).count_nonzero()) for name in found.masks) <= found.kept
    for name, mask in found.masks.items():
        assert not found.model.get_parameter(name)[~mask].any()
    assert digest(trained.state_dict()) == before
    assert type(found.model) is nn.Sequential
    assert not found.model.training
    asked = harp.evaluate(found.model, batches(DIGITS.test, 64), {"fgsm": harp.ATTACKS["fgsm"]()}, harp.Threat(eps=0.1))
    assert summary(asked.flags) == summary(found.after.evaluation.flags)
    assert found.robust == asked.robust <= asked.clean == found.clean
    assert f"{found.kept} of {found.total:,}" in found.table()
    assert "worst" in asked.table("mine")
    assert "not examined for false robustness" in " ".join(asked.table().split())


def test_channels_leave_a_smaller_network_within_the_budget(trained):
    found = pruned(trained, 0.3, granularity="channels", held=batches(DIGITS.train, 32))
    macs = sum(harp.trace_macs(found.model, torch.rand(1, 1, 8, 8)).values())
    assert macs == found.macs <= 0.3 * found.total_macs
    assert found.masks is None
    assert found.model[0].out_channels < 8
    assert found.kept == sum(site.size for site in harp.find_sites(found.model)) < found.total


@pytest.mark.parametrize(
    "method", [name if name in USUAL else pytest.param(name, marks=pytest.mark.slow) for name in DENSE]
)
def test_every_method_that_begins_dense_ends_at_the_budget(method, trained):
    granularity = "channels" if method in CHANNELS else "weights"
    found = pruned(trained, 0.3, method=method, granularity=granularity)
    if granularity == "weights":
        assert found.kept == round(0.3 * found.total)
    assert found.macs <= 0.3 * found.total_macs or granularity == "weights"
    assert 0 < found.kept < found.total


def test_a_call_that_was_killed_ends_in_the_same_bits(trained, tmp_path):
    class KilledError(Exception):
        pass

    class Loader(list[Any]):
        left = 10

        def __iter__(self):
            for batch in super().__iter__():
                self.left -= 1
                if not self.left:
                    raise KilledError
                yield batch

    loader = Loader(batches(DIGITS.train, 96))
    whole = pruned(trained, epochs=2, folder=tmp_path / "whole")
    for left in (8, 9, 2):  # in the search, at the end of fine-tuning, and there once more
        loader.left = left
        with pytest.raises(KilledError):
            pruned(trained, loader=loader, epochs=2, folder=tmp_path / "killed")
    loader.left = 0
    again = pruned(trained, loader=loader, epochs=2, folder=tmp_path / "killed")
    assert digest(again.model.state_dict()) == digest(whole.model.state_dict())
    loader.left = 1  # a finished call draws no batch
    assert pruned(trained, loader=loader, epochs=2, folder=tmp_path / "killed").table() == whole.table()
    with pytest.raises(HarpError, match="begun with another network or other settings"):
        pruned(trained, epochs=3, folder=tmp_path / "killed")


def test_an_untrained_network_is_told_at_once():
    with pytest.warns(harp.SearchWarning, match="looks untrained: it is right about"):
        found = pruned(network())
    assert "looks untrained" in found.notes[0]
    assert "note: the network looks untrained" in found.table()


def test_a_robust_one_is_not(trained):
    with warnings.catch_warnings():
        warnings.simplefilter("error", harp.SearchWarning)
        assert not any("not robust" in note or "untrained" in note for note in pruned(trained).notes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epoch": 1}, "no option 'epoch'; did you mean 'epochs'"),
        ({"epochs": (1, 2, 3)}, "epochs: expected one number, or two"),
        ({"method": "rst"}, "rst trains from scratch.*: .*harp, "),
        ({"method": "hapr"}, "no pruning method 'hapr'; did you mean 'harp'"),
        ({"options": {"gama": 1}}, "prune.options.gama"),
        ({"evaluation": {"images": 3}}, "evaluation: no setting 'images' here"),
        ({"eps": 8}, "8/255"),
        ({"keep": 2.0}, "keep"),
    ],
)
def test_what_is_refused(options, said, trained):
    with pytest.raises(HarpError, match=said):
        pruned(trained, **options)
