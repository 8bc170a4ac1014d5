"""Copies of a pruned network to search with: taken where it is sparse, shared, and as good as the network."""

import gc
import weakref

import pytest
import torch

from harp.attacks import APGD, Quick, Square
from harp.attacks.surrogate import Surrogate
from harp.config import EvaluationSettings
from harp.models import build
from harp.networks import sparse
from harp.networks.attacking import attacks_of
from harp.networks.sparse import copies, sparse_copies
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
    model = network(0.03)
    made = sparse_copies(model, X)
    assert made is not None
    assert sparse_copies(model, X[:3]) is made
    with torch.no_grad():
        for copy in (made.quick, made.blind):
            assert torch.allclose(copy(X), model(X), atol=1e-5)


@pytest.mark.parametrize("left", [0.3, 1.0])
def test_of_a_network_that_is_not_sparse_there_are_none(left):
    assert sparse_copies(network(left), X) is None


def test_of_images_that_the_engine_does_not_take_there_are_none():
    assert sparse_copies(network(0.03).double(), X.double()) is None


def test_every_network_has_copies_of_its_own_for_as_long_as_it_lives():
    first, second = network(0.03), network(0.02)
    made, other = (sparse_copies(model, X) for model in (first, second))
    assert made is not None
    assert made is not other
    assert sparse_copies(first, X) is made
    engine = weakref.ref(made.blind)
    del first, made
    gc.collect()
    assert engine() is None


def test_attacks_asked_for_by_name_share_them(monkeypatch):
    made, model = [], network(0.03)

    def counted(*given):
        made.append(given)
        return copies(*given)

    monkeypatch.setattr(sparse, "copies", counted)
    named = attacks_of(EvaluationSettings(attacks=["fgsm", "pgd"], steps=2, restarts=1), float("inf"), seed=0)
    for attack in named.values():
        attack(model, X, Y, Threat(eps=8 / 255), Keyed.of(torch.arange(len(X)), 0, "test"))
    assert len(made) == 1


@pytest.mark.parametrize("attack", [APGD(steps=10), Square(queries=50)])
def test_an_attack_that_searches_with_them_finds_what_it_finds(attack):
    model, threat = network(0.03), Threat(eps=8 / 255)
    with torch.no_grad():
        y = model(X).argmax(1)

    def left(tried):
        noise = Keyed.of(torch.arange(len(X)), 0, "test")
        with torch.no_grad():
            return (model(tried(model, X, y, threat, noise)).argmax(1) == y).tolist()

    assert left(Quick(attack, offer=sparse_copies)) == left(attack)


def test_a_network_whose_weights_changed_has_new_ones():
    model = network(0.03)
    before = sparse_copies(model, X)
    with torch.no_grad():
        next(iter(find_weights(model))).param.neg_()
    made = sparse_copies(model, X)
    assert made is not None
    assert made is not before
    with torch.no_grad():
        assert torch.allclose(made.blind(X), model(X), atol=1e-5)


def test_what_changed_behind_pytorchs_back_is_not_searched_with():
    model = network(0.03)
    quick = Quick(APGD(steps=1), offer=sparse_copies)
    noise = Keyed.of(torch.arange(len(X)), 0, "test")
    quick(model, X, Y, Threat(eps=8 / 255), noise)
    next(iter(find_weights(model))).param.data.neg_()
    (known,) = quick._made
    assert not known[1].agree(model, X)
    quick(model, X, Y, Threat(eps=8 / 255), noise)
    (known,) = quick._made
    with torch.no_grad():
        assert torch.allclose(Surrogate(model, X, copies=known[1])(X), model(X), atol=1e-5)
