from typing import Any

import pytest
import torch
from torch import nn

import harp
from harp.errors import HarpError
from harp.models import Logits
from harp.training.batch import BatchCheck, enough_for_norms

OBJECTIVES = {
    "natural": lambda: harp.Natural(),
    "pgd-at": lambda: harp.PGDAT(harp.PGD(steps=1), harp.Threat()),
    "trades": lambda: harp.TRADES(harp.PGD(steps=1), harp.Threat()),
    "mart": lambda: harp.MART(harp.PGD(steps=1), harp.Threat()),
    "fast-at": lambda: harp.FastAT(harp.Threat()),
    "free-at": lambda: harp.FreeAT(harp.Threat()),
}


def images(n=5):
    return torch.rand(n, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 3


def norms():
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 3))


def train(model, data, objective=None, until=4):
    pruner, objective = harp.Pruner(), objective or harp.Natural()
    harp.fit(model, data, objective=objective, optimizer=harp.sgd(model, pruner, lr=0.1), pruner=pruner, until=until)
    return model


class Heads(nn.Module):
    """Logits in eval mode, and more than that in train mode."""

    def __init__(self, wrap):
        super().__init__()
        torch.manual_seed(0)
        self.layers, self.aux, self.wrap = norms(), nn.Linear(4, 3), wrap

    def forward(self, x):
        logits = self.layers(x)
        return self.wrap(logits, self.aux(x.flatten(1))) if self.training else logits


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_batch_of_one_under_batch_norm_is_refused_in_a_sentence(objective):
    x, y = images()
    with pytest.raises(HarpError, match=r"batch of step [25] holds 1 image, too few for batch norm .*drop_last=True"):
        train(norms(), [(x[:4], y[:4]), (x[4:], y[4:])], (chosen := OBJECTIVES[objective]()), 2 * chosen.replays)


def test_other_errors_go_through():
    with pytest.raises(ValueError, match="another"), enough_for_norms(torch.zeros(1, 2), "fit", 0):
        raise ValueError("another")


def test_any_list_or_loader_of_batches_trains_as_a_loader_does():
    x, y = images(8)
    pairs = list(zip(x.split(4), y.split(4), strict=True))
    trained = []
    single: Any = list(zip(x, y, strict=True))
    for data in (pairs, harp.Loader(pairs, "cpu"), torch.utils.data.DataLoader(single, 4)):
        torch.manual_seed(0)
        trained.append(train(norms(), data).state_dict())
    for other in trained[1:]:
        assert all(torch.equal(value, other[name]) for name, value in trained[0].items())


@pytest.mark.parametrize("data", [torch.zeros(2, 1, 2, 2), 3, iter([]), []])
def test_what_is_no_training_data_is_named(data):
    with pytest.raises(HarpError, match=type(data).__name__):
        train(norms(), data)


@pytest.mark.parametrize(
    "wrap",
    [lambda logits, aux: {"aux": aux, "logits": logits}, lambda logits, aux: (logits, aux[:, :, None])],
    ids=["dict", "tuple"],
)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_auxiliary_heads_train_as_the_network_without_them(objective, wrap):
    data, make = [images(4)], OBJECTIVES[objective]
    until = 2 * make().replays
    model, plain = Heads(wrap), Heads(lambda logits, aux: logits)
    train(model, data, make(), until)
    train(plain, data, make(), until)
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in model.state_dict().items())
    assert not model._forward_hooks


def test_a_tuple_in_train_mode_that_may_be_either_head_is_refused_and_can_be_named():
    model = Heads(lambda logits, aux: (logits, aux))
    with pytest.raises(HarpError, match=r"tuple in which 2 tensors could be the logits \(0 \[4, 3\], 1 \[4, 3\]\)"):
        train(model, [images(4)])
    train(Logits(model, "0"), [images(4)])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda z: z[:, :, None, None], r"float32 \[4, 3, 1, 1\]"),
        (lambda z: z[:, :1], r"float32 \[4, 1\]"),
        (lambda z: z[:, 0], r"float32 \[4\]"),
        (lambda z: z.argmax(1), r"int64 \[4\]"),
    ],
)
def test_answers_that_are_no_logits_are_refused(answer, said):
    model = norms()
    model.register_forward_hook(lambda module, x, logits: answer(logits))
    with pytest.raises(HarpError, match=said):
        train(model, [images(4)])


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_named(label):
    x, y = images(4)
    y[2] = label
    with pytest.raises(HarpError, match=f"batch of step 1 holds the label {label}; the network has classes 0 to 2"):
        train(norms(), [(x, y)])


def test_the_question_leaves_no_trace():
    model = nn.Sequential(norms(), nn.Dropout()).train()
    before, random = {n: v.clone() for n, v in model.state_dict().items()}, torch.get_rng_state()
    x, y = images(4)
    BatchCheck(model, "fit")(x, y, 0)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
