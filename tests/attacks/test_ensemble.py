"""The strongest that there is beside what the field reports."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from harp.attacks import ATTACKS, PGD, Attack, autoattack
from harp.data import load
from harp.evaluation import evaluate
from harp.models import build
from harp.randomness import generator
from harp.threats import Threat

THREAT = Threat(eps=0.1)


def digits():
    """A network for handwritten digits, trained in seconds against two steps of PGD, and its test images."""
    torch.manual_seed(0)
    data, numbers = load("digits"), generator(0, "digits")
    model = build("digits_cnn", classes=10, channels=1, size=8, width=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    x, y = data.train.images.float() / 255, data.train.labels
    for _ in range(6):
        for places in torch.randperm(len(x), generator=numbers).split(64):
            adv = PGD(steps=2, step=0.6)(model, x[places], y[places], THREAT, numbers)
            optimizer.zero_grad()
            cross_entropy(model.train()(adv), y[places]).backward()
            optimizer.step()
    return model.eval(), data.test.images.float() / 255, data.test.labels


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_pma_malt_and_fmn_beside_standard_leave_no_image_that_the_authors_program_breaks():
    model, x, y = digits()
    batches = [(x[:32], y[:32])]
    more: dict[str, Attack] = {name: ATTACKS[name]() for name in ("apgd-pma", "malt", "fmn")}
    strongest = evaluate(model, batches, {**autoattack(norm="Linf"), **more}, THREAT)
    official = evaluate(model, batches, autoattack(norm="Linf", engine="official"), THREAT)
    ours, theirs = strongest.flags["worst"], official.flags["worst"]
    assert not (ours & ~theirs).any()
    assert 10 < theirs.sum() < official.flags["clean"].sum()
    # Each of the three by itself is within a few images of the whole.
    for name in more:
        assert 0 <= int(strongest.flags[name].sum()) - int(theirs.sum()) <= 4
