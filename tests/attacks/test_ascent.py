import math

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import nn
from torch.nn.functional import dropout

from harp.attacks import APGD
from harp.attacks.ascent import checkpoints
from harp.attacks.losses import wrong
from harp.modes import evaluating
from harp.threats import Threat
from tests.attacks.linear import affine, images, labels, linear
from tests.attacks.networks import Sees, keys, network, points

NORMS = (math.inf, 2, 1)


def test_checkpoints_are_those_of_the_paper():
    marks = checkpoints(100, 0.22, 0.03, 0.06)
    assert [i for i, span in enumerate(marks) if span] == [22, 41, 57, 70, 80, 87, 93, 99]
    assert [span for span in marks if span] == [22, 19, 16, 13, 10, 7, 6, 6]
    assert checkpoints(3, 0.22, 0.03, 0.06) == [0, 1, 1, 1]


@pytest.fixture
def in_double():
    """Theirs keeps step sizes in torch's default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def walked(search, x, y, zero_row):
    """What the search asks a network that sees, from its start on, and which points it finds."""
    with evaluating(search.model):
        state = search.begin(x, y, keys(len(x)))
        start, found, search.model.seen = state["adv"], torch.zeros(len(x), dtype=torch.bool), []
        for i in range(search.steps + 1):
            state = search.step(state)
            found |= state["found"]
            if i == 0 and zero_row:
                state["loss"] = torch.zeros_like(state["loss"])
        return start, search.model.seen, found


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize("loss", ["crossentropy", "dlr"])
@pytest.mark.parametrize("targets", [None, 1])
@pytest.mark.parametrize("norm", [math.inf, 2])
def test_from_the_same_start_the_authors_program_takes_the_same_steps(loss, targets, norm):
    model = Sees(network())
    x, y = points(model, 48)
    threat, attack = Threat(norm, {math.inf: 0.02, 2: 0.2}[norm]), APGD(loss, steps=50, targets=targets)
    search = attack.search(model, threat, x.device)
    start, _, found = walked(search, x, y, zero_row=False)
    # Theirs holds the first step's loss against 0 instead of the start's: no verdict depends on it, but steps do.
    _, ours, again = walked(search, x, y, zero_row=True)
    theirs, broken = authors(model, loss, targets, threat, x, start, y)
    assert 0 < found.sum() < 48
    assert torch.equal(found, broken)
    assert torch.equal(again, broken)
    # The ratio of a broken point is flat where the right logit is the third: its direction is a matter of rounding.
    for here, there in zip(ours, theirs, strict=True):
        assert torch.allclose(here[~found], there[~found], rtol=0, atol=1e-6)


def authors(model, loss, targets, threat, x, start, y):
    """What the authors' program asks in one run, and which points it breaks."""
    options = {"n_iter": 50, "norm": {math.inf: "Linf", 2: "L2"}[threat.norm], "eps": threat.eps, "device": "cpu"}
    if targets is None:
        attack = APGDAttack(model, loss={"crossentropy": "ce", "dlr": "dlr"}[loss], **options)
    else:
        attack = APGDAttack_targeted(model, **options)
        attack.loss = {"crossentropy": "ce-targeted", "dlr": "dlr-targeted"}[loss]
        attack.y_target = model.model(x).argsort(1)[:, -2]
    attack.init_hyperparam(x)
    model.seen = []
    right = attack.attack_single_run(x, y, x_init=start)[1]
    return model.seen, right == 0


@pytest.mark.parametrize(("targets", "classes"), [(2, 4), (9, 4), (9, 2)])
def test_each_restart_goes_for_each_of_the_most_probable_wrong_classes(targets, classes):
    model = affine(classes, (4,), seed=0)
    x, y = torch.rand(16, 4).double(), torch.arange(16) % classes
    with torch.no_grad():
        answers = zip(model(x).argsort(1).flip(1).tolist(), y.tolist(), strict=True)
    ranked = [[c for c in row if c != right] for row, right in answers]
    search = APGD("dlr", targets=targets, restarts=2).search(model, Threat(), x.device)
    expected = [[c for c in row[:targets] for _ in range(2)] for row in ranked]
    assert search.begin(x, y, keys(16))["aims"].tolist() == expected


def test_starts_touch_the_sphere_where_the_box_allows():
    x = torch.full([8, 1, 4, 4], 0.5).double()
    for norm in (math.inf, 2):
        search = APGD().search(linear(), Threat(norm, 0.1), x.device)
        start = search.begin(x, torch.zeros(8, dtype=torch.long), keys(8))["adv"]
        assert search.threat.distance(start, x).tolist() == pytest.approx([0.1] * 8)


class Blind(nn.Module):
    """Its gradient is no number anywhere, its logits are."""

    def forward(self, x):
        z = linear()(x)
        return z + ((x - x).flatten(1).sum(1, keepdim=True)).sqrt() * 0


@pytest.mark.parametrize("norm", NORMS)
def test_a_gradient_that_is_no_number_moves_nothing(norm):
    x, y, threat = images(8), labels(8), Threat(norm, 0.5)
    search = APGD(steps=3).search(Blind(), threat, x.device)
    state = search.begin(x, y, keys(8))
    for _ in range(3):
        state = search.step(state)
        assert torch.isfinite(state["adv"]).all()
        assert (state["uphill"] == 0).all()


class Random(nn.Module):
    """A network that draws a mask over its pixels at every pass, in eval mode too."""

    def __init__(self):
        super().__init__()
        self.model, self.passes = network(), 0

    def forward(self, x):
        self.passes += 1
        return self.model(dropout(x, 0.1, training=True))


def test_the_gradient_is_that_of_several_passes_and_the_verdict_the_last_ones():
    model, y = Random(), torch.zeros(4, dtype=torch.long)
    x, _ = points(model.model, 4)
    search = APGD(eot=5).search(model, Threat(2, 0.1), x.device)
    torch.manual_seed(0)
    state = search.begin(x, y, keys(4))
    model.passes = 0
    state = search.step(state)
    assert model.passes == 5
    torch.manual_seed(0)
    probe = state["adv"].clone().requires_grad_()
    logits = [model(probe) for _ in range(5)]
    losses = [nn.functional.cross_entropy(answer, y, reduction="none") for answer in logits]
    (grad,) = torch.autograd.grad([loss.sum() for loss in losses], probe)
    unit = grad / grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert torch.allclose(state["uphill"], unit)
    assert torch.allclose(state["best_loss"], losses[-1])
    assert torch.equal(state["found"], wrong(logits[-1], y))
