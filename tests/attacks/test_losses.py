import math

import pytest
import torch

from harp.attacks.losses import (
    LOSSES,
    crossentropy,
    crossentropy_towards,
    divergence,
    dlr,
    dlr_towards,
    margin,
    probability_margin,
    wrong,
)
from harp.randomness import generator


def test_wrong_is_another_class_or_no_finite_answer():
    inf, nan = math.inf, math.nan
    logits = torch.tensor([[2.0, 1, 0], [1, 2, 0], [0, nan, 0], [nan, nan, nan], [inf, 0, 0], [0, -inf, -1], [1, 1, 0]])
    answers = wrong(logits, torch.zeros(7, dtype=torch.long))
    assert answers.dtype == torch.bool
    assert answers.tolist() == [False, True, True, True, True, True, False]


def test_margin_by_hand():
    logits = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0], [5.0, 5.0, 0.0]])
    assert margin(logits, torch.tensor([1, 2, 0])).tolist() == [-1, 1, 0]


def test_margin_raises_the_best_wrong_logit_and_lowers_the_right_one():
    logits = torch.tensor([[1.0, 3.0, 2.0]], requires_grad=True)
    margin(logits, torch.tensor([1])).sum().backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0, -1, 1]]


def test_crossentropy_by_hand():
    # softmax of (0, ln 3) is (1/4, 3/4).
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    assert crossentropy(logits, torch.tensor([0, 1])).tolist() == pytest.approx([math.log(4), math.log(4 / 3)])


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_each_example_has_its_own_loss_and_a_worse_answer_a_higher_one(name):
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-1.0, 2.0]])
    losses = LOSSES[name](logits, torch.zeros(3, dtype=torch.long))
    assert losses.shape == (3,)
    assert losses[0] < losses[1] < losses[2]


def test_the_ratio_by_hand():
    # Right is 3, the best other 2 or 5; the first is ahead of the third by 2 or 4.
    logits = torch.tensor([[3.0, 2, 1, 0], [3, 5, 1, 0]])
    assert dlr(logits, torch.tensor([0, 0])).tolist() == [-1 / 2, 2 / 4]
    # Towards class 2; the mean of third and fourth is 1/2.
    towards = dlr_towards(logits, torch.tensor([0, 0]), torch.tensor([2, 2]))
    assert towards.tolist() == pytest.approx([-2 / 2.5, -2 / 4.5])


def test_the_ratio_of_few_classes_by_hand():
    logits, y, other = torch.tensor([[3.0, 2.0, -1.0]]), torch.tensor([0]), torch.tensor([1])
    assert dlr(logits, y).item() == dlr_towards(logits, y, other).item() == -1 / 4
    assert dlr(logits[:, :2], y).item() == dlr_towards(logits[:, :2], y, other).item() == -1


@pytest.mark.parametrize("classes", [3, 4, 10])
def test_no_scale_or_shift_of_the_logits_changes_the_ratio(classes):
    logits = torch.randn(8, classes, generator=generator(0, "logits")).double()
    y, target = torch.arange(8) % classes, torch.arange(1, 9) % classes
    other = 1e4 * logits + 7
    assert torch.allclose(dlr(logits, y), dlr(other, y))
    assert torch.allclose(dlr_towards(logits, y, target), dlr_towards(other, y, target))


def test_crossentropy_towards_a_class_is_its_log_probability():
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    towards = crossentropy_towards(logits, torch.tensor([0, 0]), torch.tensor([1, 0]))
    assert towards.exp().tolist() == pytest.approx([3 / 4, 1 / 4])


def test_divergence_by_hand():
    # p = (1/2, 1/2) and q = (1/4, 3/4); KL(p || q) = ln 2 - ln 3 / 2 and KL(q || p) = 3/4 ln 3 - ln 2.
    even, odd = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, math.log(3)]])
    assert divergence(odd, even).tolist() == pytest.approx([math.log(2) - math.log(3) / 2])
    assert divergence(even, odd).tolist() == pytest.approx([0.75 * math.log(3) - math.log(2)])
    assert divergence(torch.cat([odd, even]), torch.cat([odd, even])).tolist() == [0, 0]


def test_divergence_trains_both_answers_and_a_certain_one_stays_finite():
    logits, clean = torch.tensor([[0.0, 300.0]], requires_grad=True), torch.tensor([[1.0, 0.0]], requires_grad=True)
    divergence(logits, clean).sum().backward()
    assert logits.grad is not None
    assert clean.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(clean.grad).all()
    assert logits.grad.abs().sum() > 0
    assert clean.grad.abs().sum() > 0


def test_the_margin_of_probabilities_by_hand():
    """METHODS 9.13: p = (.6, .3, .1), the first is right: -.3, but for the 1, and gradient (-.42, .39, .03)."""
    logits = torch.tensor([[0.6, 0.3, 0.1]]).log().requires_grad_()
    loss = probability_margin(logits, torch.tensor([0]))
    loss.sum().backward()
    assert loss.item() - 1 == pytest.approx(-0.3)
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([-0.42, 0.39, 0.03])


def test_the_margin_of_probabilities_is_what_the_definition_says_point_by_point():
    numbers = generator(0, "logits")
    logits, y = 4 * torch.randn(200, 7, generator=numbers, dtype=torch.float64), torch.arange(200) % 7
    ours, written = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = probability_margin(ours, y)
    p, right = written.softmax(1), torch.nn.functional.one_hot(y, 7).bool()
    defined = torch.stack([row[~mine].max() - row[mine][0] for row, mine in zip(p, right, strict=True)])
    loss.sum().backward()
    defined.sum().backward()
    assert torch.allclose(loss - 1, defined)
    assert ours.grad is not None
    assert written.grad is not None
    assert torch.allclose(ours.grad, written.grad)
    assert torch.equal(loss > 1, logits.argmax(1) != y)


def test_the_margin_of_probabilities_rises_where_float32_says_1_of_the_right_one():
    logits = torch.tensor([[60.0, 0.0, -1.0]], requires_grad=True)
    loss = probability_margin(logits, torch.tensor([0]))
    loss.sum().backward()
    assert 0 < loss.item() < 1e-25
    assert logits.grad is not None
    assert logits.grad.sign().tolist() == [[-1, 1, 1]]
