import warnings

import pytest
import torch
from torch import nn

from harp.attacks import PGD
from harp.data import Images, Resident
from harp.errors import HarpError
from harp.objectives import PGDAT, FreeAT, Natural, Objective
from harp.pruners import Course, Harp, HarpOptions, Masked, Moment, Pruner, SearchWarning
from harp.sparsity import Budget, Masks, find_sites
from harp.threats import Threat
from harp.training import SCHEDULES, fit, sgd, steps_per_epoch

OBJECTIVE = PGDAT(PGD(steps=2), Threat(eps=0.1))


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(288, 3)
    )


def images(n=64):
    noise = torch.Generator().manual_seed(0)
    return Images(torch.rand(n, 1, 8, 8, generator=noise), torch.arange(n) % 3)


def data():
    return Resident(images(), 16, seed=0, device="cpu", pad=1)


def train(model, pruner, until, start=0, on=(), objective=OBJECTIVE, **options):
    optimizer = sgd(model, pruner, lr=0.05)
    fit(
        model,
        data(),
        objective=objective,
        optimizer=optimizer,
        pruner=pruner,
        until=until,
        start=start,
        on=on,
        **options,
    )
    return model


def test_training_lowers_the_loss_and_leaves_train_mode():
    losses = []
    model = train(network(), Pruner(), 40, objective=Natural(), on=[lambda m: losses.append(float(m.loss))])
    assert len(losses) == 40
    assert sum(losses[-8:]) < sum(losses[:8])
    assert all(module.training for module in model.modules())


def test_the_same_seed_gives_the_same_weights_whatever_the_global_generator_held():
    first = train(network(), Pruner(), 6)
    model = network()
    torch.rand(17)
    before = torch.get_rng_state()
    second = train(model, Pruner(), 6)
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_moments_count_steps_and_tell_the_learning_rate():
    moments: list[Moment] = []
    train(network(), Pruner(), 4, on=[moments.append], schedule=SCHEDULES["constant"])
    assert [m.step for m in moments] == [1, 2, 3, 4]
    assert {m.lr for m in moments} == {0.05}


class Recorded(Objective):
    """Three steps a batch; remembers which batch, noise and global draw each one saw."""

    replays = 3

    def __init__(self):
        self.seen = []

    def __call__(self, model, x, y, noise):
        draw = torch.rand(1, generator=noise).item()
        for _ in range(3):
            self.seen.append((x.sum().item(), draw, torch.rand(1).item()))
            yield lambda: nn.functional.cross_entropy(model(x), y)


def test_a_batch_is_used_for_as_many_steps_as_the_objective_says():
    objective, rates = Recorded(), []
    assert steps_per_epoch(data(), objective) == 12
    schedule = SCHEDULES["cosine-epochs"]
    train(network(), Pruner(), 24, objective=objective, schedule=schedule, on=[lambda m: rates.append(m.lr)])
    batches = [x.sum().item() for (x, _), _ in zip(data().after(0), range(8), strict=False)]
    assert [batch for batch, _, _ in objective.seen] == [batch for batch in batches for _ in range(3)]
    # One noise a batch, and torch's global generator anew for every step.
    assert len({draw for _, draw, _ in objective.seen}) == 8
    assert len({draw for _, _, draw in objective.seen}) == 24
    assert rates == [0.05 * schedule(step, 24, 12) for step in range(24)]


@pytest.mark.parametrize("start", range(1, 8))
def test_a_start_within_the_replays_of_a_batch_sees_what_was_left_of_it(start):
    whole, rest = Recorded(), Recorded()
    train(network(), Pruner(), 8, objective=whole)
    train(network(), Pruner(), 8, objective=rest, start=start)
    done = start % 3  # made again to get at the next, but not used
    assert rest.seen[done:] == whole.seen[start:]


@pytest.mark.parametrize("start", [3, 4, 6])
def test_free_at_resumes_bit_identically_from_within_a_batch(start):
    def run(parts):
        model, pruner, objective, step = network(), Pruner(), FreeAT(Threat(eps=0.1), replays=4), 0
        optimizer = sgd(model, pruner, lr=0.05)
        for until in parts:
            if step:
                state, objective = objective.state_dict(), FreeAT(Threat(eps=0.1), replays=4)
                objective.load_state_dict(state)
            options = {"schedule": SCHEDULES["constant"], "start": step, "until": until}
            fit(model, data(), objective=objective, optimizer=optimizer, pruner=pruner, **options)
            step = until
        return {**model.state_dict(), **objective.state_dict()}

    whole, parts = run([10]), run([start, 10])
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_nothing_happens_when_there_is_nothing_left_to_do():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, Pruner(), 5, start=5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_search_trains_scores_rates_and_norms_and_nothing_else():
    model = network()
    dense = {name: value.clone() for name, value in model.state_dict().items()}
    pruner = Harp(find_sites(model), Budget(0.1), course=Course(4))
    scores = {name: score.detach().clone() for name, score in pruner.scores.items()}
    logits = pruner.logits.detach().clone()
    train(model, pruner, 4)
    assert all(torch.equal(pruner.dense[name], dense[name]) for name in scores)
    assert torch.equal(model[5].bias, dense["5.bias"])
    assert not torch.equal(model[1].weight, dense["1.weight"])
    assert not torch.equal(model[1].bias, dense["1.bias"])
    assert not torch.equal(pruner.logits, logits)
    assert all(not torch.equal(pruner.scores[name], scores[name]) for name in scores)


def test_fine_tuning_trains_what_is_left_and_the_rest_stays_zero():
    model = network()
    sites = find_sites(model)
    masks = Harp(sites, Budget(0.1), course=Course(4)).settle()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, Masked(sites, masks), 4)
    for site in sites:
        assert not site.param[~masks[site.name]].any()
        assert not torch.equal(site.param[masks[site.name]], before[site.name][masks[site.name]])
    assert not torch.equal(model[5].bias, before["5.bias"])


def test_masks_are_computed_once_per_optimizer_step(monkeypatch):
    calls = []
    weights = Harp.weights

    def counted(self):
        calls.append(1)
        return weights(self)

    monkeypatch.setattr(Harp, "weights", counted)
    model = network()
    train(model, Harp(find_sites(model), Budget(0.1), course=Course(4)), 5)
    assert len(calls) == 5 + 1  # and once before the first


def test_pixels_that_are_not_numbers_stop_training_before_they_touch_a_weight():
    class Broken:
        steps_per_epoch = 4

        def after(self, step):
            yield torch.full((4, 1, 8, 8), torch.nan), torch.zeros(4, dtype=torch.int64)

        def once(self):
            return self.after(0)

    model, pruner = network(), Pruner()
    optimizer = sgd(model, pruner, lr=0.1)
    with pytest.raises(HarpError, match="step 1 holds NaN"):
        fit(model, Broken(), objective=OBJECTIVE, optimizer=optimizer, pruner=pruner, until=4)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_a_diverging_loss_is_an_error_that_names_the_step():
    model, pruner = network(), Pruner()
    seen: list[Moment] = []
    optimizer = sgd(model, pruner, lr=1e30)
    with pytest.raises(HarpError, match=r"loss became .* at step"):
        fit(model, data(), objective=OBJECTIVE, optimizer=optimizer, pruner=pruner, until=40, on=[seen.append])
    assert all(m.loss is not None and torch.isfinite(m.loss) for m in seen)


class Steep(Objective):
    """A finite loss whose gradient is not: the square root at 0."""

    def __call__(self, model, x, y, noise):
        yield lambda: (model(x).sum() * 0).sqrt()


@pytest.mark.parametrize("mode", ["penalty", "exact"])
def test_a_gradient_that_is_no_number_stops_training_before_it_touches_a_weight(mode):
    model = network()
    pruner = Harp(find_sites(model), Budget(0.1), options=HarpOptions(mode=mode), course=Course(4, 8))
    scores = {name: score.detach().clone() for name, score in pruner.scores.items()}
    with pytest.raises(HarpError, match=r"the gradient of 0\.weight is NaN or infinite at step 1"):
        train(model, pruner, 4, objective=Steep())
    assert all(torch.equal(score, scores[name]) for name, score in pruner.scores.items())
    assert torch.isfinite(pruner.logits).all()


def test_a_pruner_of_another_network_is_refused():
    model = network()
    pruner = Harp(find_sites(network()), Budget(0.1), course=Course(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(HarpError, match=r"^0\.weight of the Harp is no parameter of this Sequential"):
        fit(model, data(), objective=OBJECTIVE, optimizer=optimizer, pruner=pruner, until=1)


def test_rates_that_collapsed_do_not_pass_in_silence():
    model = network()
    pruner = Harp(find_sites(model), Budget(0.1), options=HarpOptions(gamma=1000.0), course=Course(4))
    with pytest.warns(SearchWarning, match=r"2 of 2 learned rates collapsed to 0\.011 or less"):
        train(model, pruner, 8)


def test_those_that_did_not_do():
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("error", SearchWarning)
        train(model, Harp(find_sites(model), Budget(0.1), course=Course(4)), 8)


def test_masks_keep_their_type():
    with pytest.raises(HarpError, match="expected bool"):
        Masks({"w": torch.ones(3)})


def test_a_gradient_is_cut_to_the_largest_norm_of_what_is_kept():
    # d/dw of (w . x)^2 / 2 at w = (3, 4, 0) and x = (1, 1, 1) is 7 everywhere; the third weight is pruned.
    model = nn.Linear(3, 2, bias=False)
    model.weight.data.copy_(torch.tensor([[3.0, 4.0, 7.0], [0.0, 0.0, 0.0]]))
    pruner = Masked(find_sites(model), Masks({"weight": torch.tensor([[True, True, False], [True, True, True]])}))
    optimizer = torch.optim.SGD([{"params": [model.weight], "role": "weights"}], lr=1.0)

    class Square(Objective):
        def __call__(self, model, x, y, noise):
            yield lambda: model(x)[:, 0].square().mean() / 2

    fit(
        model,
        [(torch.ones(2, 3), torch.zeros(2, dtype=torch.long))],
        objective=Square(),
        optimizer=optimizer,
        pruner=pruner,
        until=1,
        schedule=SCHEDULES["constant"],
        clip=2.0,
    )
    # (7, 7, 0) has the norm 7 sqrt(2): a step of length 2.
    torch.testing.assert_close(model.weight.data[0], torch.tensor([3 - 2**0.5, 4 - 2**0.5, 0.0]))
