"""Copies of a pruned network to search with: taken where it is sparse, shared, and as good as the network."""

import gc

import pytest
import torch

from harp.attacks import APGD, Quick, Square
from harp.attacks.surrogate import Surrogate
from harp.models import build
from harp.networks.sparse import SparseCopies
from harp.randomness import Keyed, generator
from harp.sparsity import find_weights
from harp.threats import Threat

X = torch.rand(20, 3, 32, 32, generator=generator(0, "x"))
Y = torch.arange(20) % 10


def network(left):
    torch.manual_seed(0)
    model = build("cifar_cnn", classes=10, channels=3, size=32)
    draws = generator(0, "masks")
    with torch.no_grad():
        for site in find_weights(model):
            site.param.mul_(torch.rand(site.param.shape, generator=draws) < left)
        for _ in range(30):
            model(X)  # statistics of its own, or its answers would hardly depend on the image
    return model.eval()


def test_a_sparse_network_has_copies_with_its_logits_which_attacks_share():
    model, offer = network(0.03), SparseCopies()
    made = offer(model, X)
    assert made is not None
    assert offer(model, X[:3]) is made
    with torch.no_grad():
        for copy in (made.quick, made.blind):
            assert torch.allclose(copy(X), model(X), atol=1e-5)


@pytest.mark.parametrize("left", [0.3, 1.0])
def test_of_a_network_that_is_not_sparse_there_are_none(left):
    assert SparseCopies()(network(left), X) is None


def test_of_images_that_the_engine_does_not_take_there_are_none():
    assert SparseCopies()(network(0.03).double(), X.double()) is None


def test_another_network_has_copies_of_its_own():
    offer, first, second = SparseCopies(), network(0.03), network(0.02)
    made = [offer(model, X) for model in (first, second)]
    assert made[0] is not made[1]
    del first, second
    gc.collect()
    assert offer(network(1.0), X) is None


@pytest.mark.parametrize("attack", [APGD(steps=10), Square(queries=50)])
def test_an_attack_that_searches_with_them_finds_what_it_finds(attack):
    model, threat = network(0.03), Threat(eps=8 / 255)
    with torch.no_grad():
        y = model(X).argmax(1)

    def left(tried):
        noise = Keyed.of(torch.arange(len(X)), 0, "test")
        with torch.no_grad():
            return (model(tried(model, X, y, threat, noise)).argmax(1) == y).tolist()

    assert left(Quick(attack, offer=SparseCopies())) == left(attack)


def test_a_network_whose_weights_changed_since_is_not_taken_for_the_one_before():
    model, offer = network(0.03), SparseCopies()
    quick = Quick(APGD(steps=1), offer=offer)
    noise = Keyed.of(torch.arange(len(X)), 0, "test")
    quick(model, X, Y, Threat(eps=8 / 255), noise)
    with torch.no_grad():
        next(iter(find_weights(model))).param.neg_()
    (known,) = quick._made
    assert not known[1].agree(model, X)
    quick(model, X, Y, Threat(eps=8 / 255), noise)
    (known,) = quick._made
    with torch.no_grad():
        assert torch.allclose(Surrogate(model, X, copies=known[1])(X), model(X), atol=1e-5)
