"""First looks at networks whose answers are known, and loaders as they may come."""

import pytest
import torch
from torch import nn

from harp.attacks import PGD
from harp.data import Loader
from harp.errors import HarpError
from harp.pruning.images import InOrder, look
from harp.threats import Threat

X, Y = torch.eye(10).repeat(6, 1).view(60, 1, 2, 5), torch.arange(10).repeat(6)
BATCHES = Loader(list(zip(X.split(20), Y.split(20), strict=True)), "cpu")


def notes(model, eps):
    return look(model, BATCHES, PGD(steps=5), Threat(eps=eps), 10, seed=0)


class Steep(nn.Module):
    """The brightest of ten pixels is the class."""

    def forward(self, x):
        return 10 * x.flatten(1)


def test_a_network_that_holds_is_not_spoken_of():
    # Pixels are 1 and 0, so no change of each by less than a half moves the largest.
    assert notes(Steep(), 0.4) == []


def test_one_that_breaks_is_told_with_what_it_was_asked():
    (note,) = notes(Steep(), 0.6)
    assert note.startswith("the network is not robust: of 60 training images it is right about 60, and about 0 under")
    assert "PGD-5 at L-inf, eps 0.6" in note


def test_chance_is_untrained():
    class Constant(Steep):
        def forward(self, x):
            return super().forward(x) * 0

    (note,) = notes(Constant(), 0.1)
    assert note.startswith("the network looks untrained: it is right about 6 of 60 training images")


def test_a_test_loader_has_batches_of_one_size():
    assert len(InOrder([(X[:20], Y[:20]), (X[:7], Y[:7])], Steep())) == 27
    with pytest.raises(HarpError, match="batches are of 7 to 20 images"):
        InOrder([(X[:7], Y[:7]), (X[:20], Y[:20])], Steep())
