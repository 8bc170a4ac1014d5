"""The four gradients a keep rate can get, against their definitions and against finite differences."""

import pytest
import torch

from harp.pruners.straight_through import top_share


def slopes(estimator, score, count, grad):
    rate = torch.tensor(count / len(score), requires_grad=True)
    score = score.clone().requires_grad_()
    top_share(score, rate, count, estimator).backward(grad)
    assert torch.equal(score.grad, grad * score.detach().sign())
    assert rate.grad is not None
    return float(rate.grad)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    # |score| ranks the entries 1, 2, 0, 3; two are kept. At the margin are the second and the third: 3 and 1.
    [("sum", 10), ("pruned", 1 + 4), ("marginal", 4 * (2 + 3 + 1 + 4) / 4), ("zero", 0)],
)
def test_by_hand(estimator, expected):
    score = torch.tensor([0.5, -3.0, 1.0, -0.1])
    assert slopes(estimator, score, 2, torch.tensor([1.0, 2.0, 3.0, 4.0])) == expected


def test_the_margin_is_as_many_ranks_on_both_sides():
    # 3 of 1,000 are kept: ranks 1 to 3 and 4 to 6 are next to the cut, whatever the other 994 are.
    score = torch.arange(1000, 0, -1).float()
    grad = torch.full([1000], 1e6)
    grad[:6] = torch.arange(1.0, 7)
    assert slopes("marginal", score, 3, grad) == pytest.approx(1000 * 3.5)
    # 500 of 10,000: one per cent on each side.
    grad = torch.full([10_000], 1e6)
    grad[400:600] = torch.arange(200.0)
    assert slopes("marginal", torch.arange(10_000, 0, -1).float(), 500, grad) == pytest.approx(10_000 * 99.5)


@pytest.mark.parametrize("count", [1, 999, 1000])
def test_a_cut_at_either_end_has_a_margin(count):
    grad = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert slopes("marginal", torch.arange(1000, 0, -1).float(), count, grad) != 0


@pytest.mark.parametrize("count", [500, 5000, 15_000])
def test_marginal_is_the_derivative_of_the_loss_by_the_rate(count):
    """A smooth toy: 20,000 weights fall smoothly with their rank and the loss is a smooth function of their masked sum.

    Finite differences move the count by 1 % of n either way.
    """
    size = 20_000
    ranks = torch.arange(size, dtype=torch.float64) / size
    weights = torch.exp(-3 * ranks) * torch.cos(2 * ranks) / size

    def loss(mask):
        return torch.sin(3 * (mask * weights).sum())

    mask = (torch.arange(size) < count).double().requires_grad_()
    (grad,) = torch.autograd.grad(loss(mask), mask)
    shuffled = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    score = (1 - ranks / 2)[shuffled]

    step = size // 100
    above, below = ((torch.arange(size) < count + d).double() for d in (step, -step))
    expected = float(loss(above) - loss(below)) / (2 * step / size)
    assert slopes("marginal", score, count, grad[shuffled]) == pytest.approx(expected, rel=2e-3)
    # Neither of the published sums is near it.
    assert slopes("sum", score, count, grad[shuffled]) != pytest.approx(expected, rel=0.2)


def test_the_margin_is_thirty_two_ranks_at_least():
    # One per cent of 1,000 would be ten.
    grad = torch.full([1000], 1e6)
    grad[468:532] = torch.arange(64.0) ** 2
    # The mean of the squares of 0 to 63 is 63 * 127 / 6.
    assert slopes("marginal", torch.arange(1000, 0, -1).float(), 500, grad) == pytest.approx(1000 * 63 * 127 / 6)
