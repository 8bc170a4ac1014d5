import torch
from torch import nn

from harp.attacks import PGD
from harp.evaluation import Untouched, evaluate
from harp.evaluation.steadiness import Accompanied, accompanied, apart
from harp.threats import Threat
from tests.attacks.linear import images, linear

X = images(16)
Y = linear()(X).argmax(1)
THREAT = Threat(eps=0.1)
PLAIN = evaluate(linear().eval(), [(X, Y)], {"pgd": PGD()}, THREAT)


class Remembering(nn.Module):
    """Takes what is within eps of the first images it saw for these images themselves."""

    def __init__(self):
        super().__init__()
        self.model, self.known = linear(), None

    def forward(self, x):
        if self.known is None:
            self.known = x.detach()
        apart = (x[:, None] - self.known[None]).flatten(2).abs().amax(2)
        near = (apart.amin(1) <= 0.101)[:, None, None, None]
        return self.model(torch.where(near, self.known[apart.argmin(1)] + 0 * x, x) + 1e-3 * (x - x.detach()))


class Uncopied(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = linear()

    def __deepcopy__(self, memo):
        raise RuntimeError("no copy of me")

    def forward(self, x):
        return self.model(x)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = linear()

    def forward(self, x):
        return self.model(x + torch.randn_like(x))


def test_what_a_network_remembers_saves_no_image():
    assert 0 < PLAIN.flags["pgd"].sum() < 16
    found = evaluate(Remembering().eval(), [(X, Y)], {"pgd": PGD()}, THREAT)
    assert torch.equal(found.flags["pgd"], PLAIN.flags["pgd"])
    assert found.notes == (
        "pgd: state: the network by now withstands images that break it as it was at first; those count as broken",
    )


def test_of_an_honest_network_nothing_is_said_and_no_verdict_moves():
    assert PLAIN.notes == ()
    nothing = torch.zeros(16, dtype=torch.bool)
    for model in (linear(), Uncopied(), Noisy()):
        untouched = Untouched(model)
        assert torch.equal(untouched.held(~nothing, X, Y), ~nothing)
        assert torch.equal(untouched.held(nothing, X, Y), nothing)


def test_answers_are_those_before_anything_was_asked():
    model = linear()
    untouched, before = Untouched(model), model(X)
    with torch.no_grad():
        model.get_parameter("1.weight").zero_()
    at_once, parts = untouched.answers(X), untouched.answers(X, 4)
    assert at_once is not None
    assert parts is not None
    assert torch.equal(at_once, before)
    # Kernels of other batch sizes may round otherwise; so they do on processors with AMX.
    assert torch.allclose(parts, before, rtol=0, atol=1e-6)


def test_there_are_none_of_a_random_network_nor_of_one_that_cannot_be_copied():
    assert Untouched(Noisy()).answers(X) is None
    assert Untouched(Uncopied()).answers(X) is None


def test_an_image_alone_has_company_where_it_needs_some():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    assert accompanied(model, X) is model
    both = accompanied(model.train(), X)
    assert isinstance(both, Accompanied)
    assert torch.equal(both(X[:1]), model(torch.cat([X[:1], X[:1]]))[:1])
    assert torch.equal(both(X), model(X))


def test_what_fails_in_any_company_stays_as_it_is():
    model = nn.Linear(3, 2)
    assert accompanied(model, X) is model


def test_batches_of_one_are_evaluated_where_batch_norm_stands_in_train_mode():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4, track_running_stats=False), linear()[1])
    found = evaluate(model, [(X[:1], Y[:1]), (X[1:], Y[1:])], {"pgd": PGD(steps=1)}, THREAT)
    assert len(found.labels) == 16


def test_a_distance_is_a_share_of_the_largest_centred_logit():
    logits = torch.tensor([[5.0, 1.0], [4.0, 4.0]])
    assert apart(logits + 0.5, logits) == 0.25
