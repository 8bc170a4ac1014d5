import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from harp.objectives import OBJECTIVES, FreeAT
from harp.randomness import generator
from harp.threats import Threat
from tests.attacks.linear import WEIGHTS, images, labels, linear

EPS = 0.1
W = torch.tensor(WEIGHTS)
# The unit step that lowers the margin of class 1 fastest.
DOWN = {math.inf: -W.sign(), 2: -W / W.norm()}


def run(objective, model, x, y):
    """The losses of all replays of a batch, without any optimizer."""
    found = []
    for evaluate in objective(model, x, y, generator(0)):
        model.zero_grad()
        loss = evaluate()
        loss.backward()
        found.append(loss.item())
    return found


def towards(norm, y):
    return ((2 * y - 1)[:, None] * DOWN[norm]).view(-1, 1, 2, 2)


def noise_of(objective: FreeAT) -> Tensor:
    assert objective.delta is not None
    return objective.delta


def test_the_papers_replays():
    assert OBJECTIVES["free-at"](Threat()) == FreeAT(Threat(), replays=4)


def test_replays_below_one_are_refused():
    with pytest.raises(ValueError, match="replays: expected at least 1, got 0"):
        FreeAT(Threat(), replays=0)


@pytest.mark.parametrize("norm", DOWN)
@pytest.mark.parametrize("replays", [1, 3])
def test_noise_and_losses_of_a_linear_model_in_closed_form(norm, replays):
    objective, model, x, y = FreeAT(Threat(norm, EPS), replays), linear(), images(6), labels(6)
    losses = run(objective, model, x, y)
    # The gradient points one way, so the first step of eps reaches the ball's edge and later ones stay there.
    assert torch.allclose(noise_of(objective), EPS * towards(norm, y), atol=1e-6)
    margin = (2 * y - 1) * (x.flatten(1) @ W)
    reach = EPS * -(DOWN[norm] @ W)
    expected = [softplus(-margin).mean().item()] + [softplus(-(margin - reach)).mean().item()] * (replays - 1)
    assert losses == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("norm", DOWN)
def test_noise_is_carried_to_the_next_batch(norm):
    objective, model, x, y = FreeAT(Threat(norm, EPS), 2), linear(), images(6), labels(6)
    run(objective, model, x, y)
    # Other labels pull the other way: one step of eps leads from the edge to the centre, the next to the other edge.
    closures = objective(model, x, 1 - y, generator(0))
    margin = (2 * y - 1) * (x.flatten(1) @ W)
    reach = EPS * -(DOWN[norm] @ W)
    loss = next(closures)()
    assert loss.item() == pytest.approx(softplus(margin - reach).mean().item(), rel=1e-5)
    loss.backward()
    assert torch.allclose(noise_of(objective), torch.zeros_like(x), atol=1e-6)
    next(closures)().backward()
    assert torch.allclose(noise_of(objective), -EPS * towards(norm, y), atol=1e-6)


def test_noise_is_kept_where_the_box_cuts_an_image():
    objective, x, y = FreeAT(Threat(math.inf, EPS), 1), torch.zeros(1, 1, 2, 2), torch.tensor([1])
    run(objective, linear(), x, y)
    assert torch.allclose(noise_of(objective), EPS * towards(math.inf, y))
    (evaluate,) = objective(linear(), x, y, generator(0))
    # Of the noise only what is above 0 reaches the model.
    m = (EPS * DOWN[math.inf].clamp(min=0)) @ W
    assert evaluate().item() == pytest.approx(math.log1p(math.exp(-m)), rel=1e-5)


def test_one_gradient_a_replay_serves_weights_and_noise():
    objective, model, passes = FreeAT(Threat(eps=EPS), 3), linear(), {"forward": 0, "backward": 0}
    model.register_forward_hook(lambda *_: passes.update(forward=passes["forward"] + 1))
    model[1].register_full_backward_hook(lambda *_: passes.update(backward=passes["backward"] + 1))
    run(objective, model, images(6), labels(6))
    assert passes == {"forward": 3, "backward": 3}
    adv = (images(6) + noise_of(objective)).clamp(0, 1)
    found = model.get_parameter("1.weight").grad
    assert found is not None
    other = linear()
    cross_entropy(other(adv), labels(6)).backward()
    expected = other.get_parameter("1.weight").grad
    assert expected is not None
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_closure_without_a_backward_pass_moves_no_noise():
    objective = FreeAT(Threat(eps=EPS), 2)
    for evaluate in objective(linear(), images(4), labels(4), generator(0)):
        evaluate()
    assert not noise_of(objective).any()


def test_batches_of_other_sizes_use_the_noise_of_their_positions():
    objective, model = FreeAT(Threat(eps=EPS), 1), linear()
    run(objective, model, images(4), labels(4))
    first = noise_of(objective).clone()
    run(objective, model, images(2), 1 - labels(2))
    assert not noise_of(objective)[:2].any()
    assert torch.equal(noise_of(objective)[2:], first[2:])
    run(objective, model, images(6), labels(6))
    assert torch.allclose(noise_of(objective), EPS * towards(math.inf, labels(6)), atol=1e-6)
