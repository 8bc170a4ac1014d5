"""HARP for weights, number by number (METHODS section 1)."""

import math

import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.pruners import Course, Harp, HarpOptions, Moment, RatesOnly
from harp.sparsity import Budget, find_sites


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 40, bias=False), nn.Linear(40, 10, bias=False), nn.Linear(10, 2, bias=False))


def harp(keep=0.1, per_epoch=2, **options):
    model = network()
    return model, Harp(find_sites(model), Budget(keep), options=HarpOptions(**options), course=Course(per_epoch))


def set_rates(pruner, rates):
    least = pruner.budget.least
    with torch.no_grad():
        for i, rate in enumerate(rates):
            share = (rate - least) / (1 - least)
            pruner.logits[i] = math.log(share / (1 - share))


def test_rates_begin_at_ten_percent_and_never_fall_below_a_tenth_of_the_target():
    _, pruner = harp(keep=0.01)
    torch.testing.assert_close(pruner.rates(), torch.full([3], 0.1))
    with torch.no_grad():
        pruner.logits.fill_(-50)
    torch.testing.assert_close(pruner.rates(), torch.full([3], 0.001))


@pytest.mark.parametrize(("keep", "start", "expected"), [(0.5, None, 0.5), (0.01, 0.3, 0.3), (0.01, 1.0, 0.99)])
def test_starts(keep, start, expected):
    _, pruner = harp(keep=keep, start_keep=start)
    torch.testing.assert_close(pruner.rates(), torch.full([3], expected), atol=1e-3, rtol=0)


def test_a_start_below_the_floor_is_no_nan():
    _, pruner = harp(keep=0.9, start_keep=0.05)
    assert torch.isfinite(pruner.logits).all()
    assert (pruner.rates() >= pruner.budget.least).all()


def test_the_penalty_is_one_sided_and_counts_weights():
    # Sizes 400, 400, 20; keep 0.1 is a budget of 82.
    _, pruner = harp(keep=0.1, gamma=0.5)
    set_rates(pruner, [0.2, 0.3, 0.5])
    assert float(pruner.learned.excess().detach()) == pytest.approx((80 + 120 + 10) / 82 - 1, rel=1e-5)
    assert float(pruner.penalty().detach()) == pytest.approx(0.5 * ((80 + 120 + 10) / 82 - 1), rel=1e-5)
    set_rates(pruner, [0.05, 0.05, 0.05])
    assert float(pruner.penalty().detach()) == 0


def test_gamma_grows_by_itself_every_epoch_and_freezes_once_an_epoch_ends_in_budget():
    _, pruner = harp(keep=0.1, gamma=0.01, per_epoch=2)
    set_rates(pruner, [0.5, 0.5, 0.5])
    seen = []
    for step in range(7):
        if step == 5:  # the excess vanishes in the third epoch, whose gamma then stays
            set_rates(pruner, [0.05, 0.05, 0.05])
        pruner.push(Moment(step))
        seen.append(pruner.learned.gamma)
    assert seen == pytest.approx([0.01, 0.01, 0.02, 0.02, 0.03, 0.03, 0.03])
    set_rates(pruner, [0.5, 0.5, 0.5])
    pruner.push(Moment(8))
    assert pruner.learned.gamma == pytest.approx(0.03)


def test_forward_masks_keep_the_ceiling_of_each_rate():
    model, pruner = harp(keep=0.01)
    set_rates(pruner, [0.1, 0.0101, 0.02])
    pruner.push(Moment(0))
    assert [int(layer.weight.count_nonzero()) for layer in model] == [40, 5, 1]


def test_rates_learn_from_the_loss_and_from_the_penalty():
    model, pruner = harp(keep=0.01, gamma=1.0)
    pruner.push(Moment(0))
    x = torch.randn(6, 10)
    (model(x).pow(2).sum() + pruner.penalty()).backward()
    pruner.pull()
    least, rates = 0.001, pruner.rates().detach()
    slope = (1 - least) * torch.sigmoid(pruner.logits) * (1 - torch.sigmoid(pruner.logits))
    sizes = torch.tensor([400.0, 400, 20])
    size_part = slope * sizes / (0.01 * 820)
    effective = torch.stack([(layer.weight.grad * pruner.dense[f"{i}.weight"]).sum() for i, layer in enumerate(model)])
    torch.testing.assert_close(pruner.logits.grad, size_part + slope * effective)
    optimizer = torch.optim.SGD([{"role": "rates", "params": [pruner.logits], "weight_decay": 0.5}], lr=0.1)
    recorded = pruner.record(Moment(1, optimizer))["rate_gradients"]
    torch.testing.assert_close(torch.tensor(list(recorded["size"].values())), size_part.detach())
    torch.testing.assert_close(torch.tensor(list(recorded["robust"].values())), (slope * effective).detach())
    torch.testing.assert_close(torch.tensor(list(recorded["decay"].values())), 0.5 * pruner.logits.detach())
    assert rates.tolist() == pytest.approx(list(pruner.record(Moment(0))["rates"].values()))


@pytest.mark.filterwarnings("ignore::harp.pruners.SearchWarning")
@pytest.mark.parametrize("rates", [[0.9, 0.9, 0.9], [0.999, 0.002, 0.01], [0.011, 0.009, 0.01], [0.002, 0.002, 0.002]])
def test_settle_meets_the_budget_exactly_wherever_the_rates_ran_to(rates):
    _, pruner = harp(keep=0.01)
    set_rates(pruner, rates)
    masks = pruner.settle()
    assert masks.kept == round(0.01 * 820) == 8
    assert min(masks.counts.values()) >= 1


def test_settle_keeps_the_largest_scores():
    _, pruner = harp(keep=0.1)
    for name, mask in pruner.settle().items():
        score = pruner.scores[name].abs()
        assert score[mask].min() >= score[~mask].max()


def test_a_budget_below_one_weight_a_layer_is_refused_at_once():
    with pytest.raises(HarpError, match="smallest reachable keep"):
        harp(keep=0.001)


def test_the_state_brings_back_every_number():
    _, first = harp(keep=0.1)
    set_rates(first, [0.05, 0.05, 0.05])
    first.push(Moment(2))
    _, second = harp(keep=0.1)
    second.load_state_dict(first.state_dict())
    assert second.learned.gamma == first.learned.gamma
    assert second.learned.frozen_gamma is not None
    assert torch.equal(second.logits, first.logits)
    assert all(torch.equal(second.scores[name], first.scores[name]) for name in first.scores)


def test_scores_and_rates_train_by_their_roles():
    model = network()
    for kind, roles in ((Harp, {"scores", "rates"}), (RatesOnly, {"rates"})):
        assert kind(find_sites(model), Budget(0.1), course=Course(1)).trainables().keys() == roles
