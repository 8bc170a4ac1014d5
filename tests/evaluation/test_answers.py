import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.evaluation.answers import Asker, answered, same_answers
from harp.threats import Threat
from tests.attacks.linear import images, linear

THREAT = Threat(eps=0.02)
X = images(20)
MODEL = linear(bias=0.3).eval()


class Through(nn.Module):
    """A linear network of a function of the image."""

    def __init__(self, function):
        super().__init__()
        self.function, self.model = function, MODEL

    def forward(self, x):
        return self.model(self.function(x))


def told(model, index=0):
    return Asker(model, THREAT, 0)(X, index)


def test_of_the_first_batch_also_what_is_near_and_the_slope():
    found = told(MODEL)
    assert found["logits"].shape == found["nearby"].shape == (16, 2)
    assert torch.equal(found["logits"], MODEL(X[:16]))
    assert not torch.equal(found["logits"], found["nearby"])
    # Of a linear network the slope is the same everywhere, but for the direction of the logits it is taken in.
    assert found["slope"].shape == X[:16].shape
    assert found["random"] is False
    assert told(MODEL, 1).keys() == {"logits", "random"}


def test_the_same_questions_have_the_same_answers():
    first, again = told(MODEL), told(MODEL)
    assert all(torch.equal(first[name], again[name]) for name in ("logits", "nearby", "slope"))
    assert same_answers(first, again)


class Straight(torch.autograd.Function):
    """Rounds to hundredths; its gradient is that of no rounding."""

    @staticmethod
    def forward(ctx, x):
        return (x * 100).round() / 100

    @staticmethod
    def backward(ctx, grad):
        return grad


def hundredths(x):
    return (x * 100).round() / 100


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (lambda x: x, lambda x: x * 1.01),
        # Only beyond the images themselves, as of a network that knows them.
        (lambda x: x, lambda x: torch.where(torch.isin(x, X), x, 1 - x)),
        # The same answers everywhere; only the gradients tell that somebody mended it.
        (hundredths, Straight.apply),
    ],
)
def test_another_network_is_told_by_answers_nearby_and_slopes(before, after):
    assert not same_answers(told(Through(before)), told(Through(after)))


# Rounding elsewhere is 1e-5 of the largest logit at most; the tolerance is a thousandth.
@pytest.mark.parametrize(("off", "same"), [(0.0, True), (9e-4, True), (1.1e-3, False), (1e-1, False)])
def test_rounding_is_forgiven_to_a_thousandth_of_the_largest_logit(off, same):
    before = {"logits": torch.tensor([[10.0, 0.0], [-2.0, 1.0]])}
    moved = {"logits": before["logits"] + torch.tensor([[0.0, 0.0], [0.0, 10 * off]])}
    assert same_answers(before, moved) is same


@pytest.mark.parametrize(("kinks", "same"), [(0, True), (8, True), (9, False)])
def test_gradients_may_differ_at_half_of_the_images(kinks, same):
    logits, slope = torch.zeros(16, 2), torch.ones(16, 1, 2, 2)
    moved = slope.clone()
    moved[:kinks] *= 1.2
    moved[kinks:] *= 1.05
    before, now = ({"logits": logits, "nearby": logits, "slope": one} for one in (slope, moved))
    assert same_answers(before, now) is same


def test_what_is_no_number_is_the_same_where_it_stands():
    odd = torch.tensor([[float("nan"), 1.0], [float("inf"), 1.0]])
    assert same_answers({"logits": odd}, {"logits": odd.clone()})
    assert not same_answers({"logits": odd}, {"logits": odd.flip(0)})
    assert not same_answers({"logits": odd}, {"logits": odd[:, :1]})


def test_what_a_network_draws_from_global_generators_repeats_and_leaves_them():
    state = torch.get_rng_state()
    noisy = Through(lambda x: x + torch.rand_like(x))
    first, again = told(noisy), told(noisy)
    assert torch.equal(first["logits"], again["logits"])
    assert first["random"] is False
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_with_draws_of_its_own_is_random():
    own = torch.Generator().manual_seed(0)
    assert told(Through(lambda x: x + torch.rand(x.shape, generator=own)))["random"] is True


class Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, grad):
        raise NotImplementedError


def test_a_network_without_a_backward_pass_is_known_by_its_logits():
    found = told(Through(Forward.apply))
    assert "slope" not in found
    assert same_answers(found, told(MODEL))
    assert not told(Through(lambda x: x.detach()))["slope"].any()


def test_a_network_that_changes_its_images_is_refused_and_they_stay():
    x = X.clone()
    with pytest.raises(HarpError, match="changes the images it is given in place"):
        answered(Through(lambda x: x.sub_(0.1)), x)
    assert torch.equal(x, X)


def test_a_network_that_fails_is_named_with_the_place():
    one = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4)).train()
    with pytest.raises(HarpError, match=r"fails on the batch of 1 from image 40 on \(ValueError: Expected more than 1"):
        answered(one, X[:1], 40)


@pytest.mark.parametrize(("off", "same"), [(5e-4, True), (2e-3, False)])
def test_another_machine_may_round_logits_by_a_thousandth_of_the_largest(off, same):
    before, now = told(MODEL, 1), told(MODEL, 1)
    now["logits"] = now["logits"] + off * float(before["logits"].abs().max())
    assert same_answers(before, now) == same
