"""Each doubt about answers: raised by the smallest network that deserves it, and not by its honest twin."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from harp.evaluation.doubts import examine
from harp.evaluation.doubts.outputs import chance
from harp.threats import Threat
from tests.attacks.linear import images, linear

X = images(16)
Y = (linear()(X)[:, 1] > 0).long()


class Through(nn.Module):
    """What `change` makes of a linear network's logits and its images."""

    def __init__(self, change):
        super().__init__()
        self.model, self.change = linear(), change

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.change(self.model(x), x))


def raised(change) -> set[str]:
    return {doubt.name for doubt in examine(Through(change), X, Y, Threat(eps=0.01))}


def adapted(logits, x):
    with torch.enable_grad():
        moved = x.detach().requires_grad_()
        (grad,) = torch.autograd.grad((moved**2).sum(), moved)
    return logits + 1e-3 * grad.flatten(1)[:, :2]


HARMLESS = {
    "nothing": lambda logits, x: logits,
    "log-probabilities": lambda logits, x: logits.log_softmax(1),
    "a shift": lambda logits, x: logits + 100,
    "another scale": lambda logits, x: logits / 1000,
    "positive logits": lambda logits, x: logits - logits.amin(1, keepdim=True),
    "gradients switched on": lambda logits, x: torch.enable_grad()(lambda: logits + 0 * x.flatten(1).sum())(),
}
HARMFUL = {
    "non-finite": lambda logits, x: logits / (x[:, :1, 0, 0] > x[0, 0, 0, 0]),
    "constant-output": lambda logits, x: logits * 0 + 1,
    "softmax-outputs": lambda logits, x: logits.softmax(1),
    "randomness": lambda logits, x: logits + 1e-2 * torch.randn_like(logits),
    "batch-dependence": lambda logits, x: logits - 0.1 * logits.mean(0),
    "test-time-optimisation": adapted,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_raises_nothing(name):
    assert raised(HARMLESS[name]) == set()


@pytest.mark.parametrize("name", HARMFUL)
def test_what_is_harmful_is_named(name):
    assert name in raised(HARMFUL[name])


def constant(logits, x):
    return logits + torch.tensor([1e3, 0.0])


def test_a_constant_answer_needs_no_sample_size():
    threat = Threat(eps=0.01)
    for chosen in (slice(None), [int((Y == 0).nonzero()[0]), int((Y == 1).nonzero()[0])]):
        (doubt,) = (d for d in examine(Through(constant), X[chosen], Y[chosen], threat) if d.name == "constant-answer")
        n, others = len(Y[chosen]), int(Y[chosen].sum())
        assert doubt.sentence == f"All {n} images are answered with class 0; {others} have another label."
        assert doubt.value == float(Y[chosen].float().mean())


def test_a_few_mistakes_that_agree_are_no_constant_answer():
    zeros = (Y == 0).nonzero().squeeze(1)[:3]
    labels = torch.tensor([0, 1, 1])
    assert "constant-answer" not in {d.name for d in examine(linear(), X[zeros], labels, Threat(eps=0.01))}


@pytest.mark.parametrize(
    ("right", "n", "doubted"),
    [(10, 100, True), (45, 449, True), (20, 100, False), (2, 8, False), (0, 100, False), (150, 1000, False)],
)
def test_chance_is_told_from_little(right, n, doubted):
    clean = torch.arange(n) < right
    sample: Any = SimpleNamespace(flags={"clean": clean}, logits=torch.zeros(1, 10), y=torch.zeros(1, dtype=torch.long))
    assert (chance(sample) is not None) == doubted


def test_chance_is_not_taken_for_dependence_on_the_batch():
    assert "batch-dependence" not in raised(HARMFUL["randomness"])


def test_equal_images_may_get_equal_logits():
    x, y = X[:1].expand(4, -1, -1, -1), Y[:1].expand(4)
    assert examine(linear(), x, y, Threat(eps=0.01)) == []


def test_statistics_of_the_batch_are_seen():
    model = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), linear())
    assert "batch-dependence" in {doubt.name for doubt in examine(model, X, Y, Threat(eps=0.01))}


def test_sentences_say_how_much():
    (doubt,) = examine(Through(HARMFUL["softmax-outputs"]), X, Y, Threat(eps=0.01))
    assert doubt.value < 1e-5
    assert doubt.sentence.startswith("All outputs are at least 0, and each image's sum to 1 within")
