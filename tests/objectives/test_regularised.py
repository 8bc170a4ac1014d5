import math

import pytest
import torch
from torch.nn.functional import softplus

from harp.attacks import PGD
from harp.objectives import MART, OBJECTIVES, TRADES
from harp.objectives.regularised import boosted
from harp.randomness import generator
from harp.threats import Threat
from tests.attacks.linear import WEIGHTS, images, labels, linear

# By how much an attack of each norm moves the margin of the linear model.
REACH = {math.inf: 0.1 * sum(abs(w) for w in WEIGHTS), 2: 0.1 * math.sqrt(sum(w * w for w in WEIGHTS))}
ATTACK = PGD(steps=20)


def noise():
    return generator(0, "objective")


def value(objective, model, n=8):
    (evaluate,) = objective(model, images(n), labels(n), noise())
    return evaluate()


def right_margins(n=8):
    """Of the linear model: the right logit minus the wrong one."""
    return (2 * labels(n) - 1) * (images(n).flatten(1) @ torch.tensor(WEIGHTS))


def divergences(margin, attacked):
    """KL of two coins whose log-odds are given."""
    p, q = margin.sigmoid(), attacked.sigmoid()
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


def test_the_weights_of_the_terms_are_the_papers():
    trades, mart = OBJECTIVES["trades"](ATTACK, Threat()), OBJECTIVES["mart"](ATTACK, Threat())
    assert isinstance(trades, TRADES)
    assert isinstance(mart, MART)
    assert (trades.beta, mart.beta) == (6, 5)


@pytest.mark.parametrize("beta", [0.0, 1.0, 6.0])
@pytest.mark.parametrize("norm", REACH)
def test_trades_of_a_linear_model_in_closed_form(norm, beta):
    # The divergence grows from the image to both sides, so the start decides on which end of the ball PGD arrives.
    start = torch.empty(8, 4).normal_(generator=noise()) @ torch.tensor(WEIGHTS)
    margin = right_margins()
    side = (2 * labels(8) - 1) * start.sign()
    expected = softplus(-margin) + beta * divergences(margin, margin + side * REACH[norm])
    found = value(TRADES(ATTACK, Threat(norm, 0.1), beta), linear())
    assert found.item() == pytest.approx(expected.mean().item(), rel=1e-5)


@pytest.mark.parametrize("beta", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("norm", REACH)
def test_mart_of_a_linear_model_in_closed_form(norm, beta):
    # Of two classes the wrong one has what the right one lacks: the boosted term is the cross-entropy once more.
    margin = right_margins()
    attacked = margin - REACH[norm]
    boost = softplus(-attacked) - (1.0001 - (-attacked).sigmoid()).log()
    expected = boost + beta * divergences(margin, attacked) * (1 - margin.sigmoid())
    found = value(MART(ATTACK, Threat(norm, 0.1), beta), linear())
    assert found.item() == pytest.approx(expected.mean().item(), rel=1e-5)


def test_the_boosted_term_is_of_the_likeliest_wrong_class():
    # softmax of (0, ln 2, ln 5) is (1, 2, 5) / 8.
    logits = torch.tensor([[0.0, math.log(2), math.log(5)]] * 2)
    expected = (-math.log(5 / 8) - math.log(1.0001 - 2 / 8) - math.log(2 / 8) - math.log(1.0001 - 5 / 8)) / 2
    assert boosted(logits, torch.tensor([2, 1])).item() == pytest.approx(expected, rel=1e-6)


def test_a_confident_wrong_answer_has_a_finite_loss_and_gradient():
    logits = torch.tensor([[0.0, 200.0]], requires_grad=True)
    loss = boosted(logits, torch.tensor([0]))
    loss.backward()
    assert loss.item() == pytest.approx(200 - math.log(1e-4), rel=1e-3)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("kind", [TRADES, MART])
def test_both_answers_are_trained(kind):
    model, seen = linear(), []

    def watch(module, inputs, output):
        if module.training:
            output.retain_grad()
            seen.append(output)

    model.register_forward_hook(watch)
    value(kind(ATTACK, Threat(eps=0.1)), model).backward()
    clean, attacked = seen
    assert clean.grad.abs().sum() > 0
    assert attacked.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", [TRADES, MART])
def test_loss_and_start_of_the_attack_are_the_methods_own(kind):
    plain, other = (kind(attack, Threat(eps=0.1)) for attack in (ATTACK, PGD(steps=20, loss="margin", start="image")))
    assert value(plain, linear()).item() == value(other, linear()).item()


@pytest.mark.parametrize(
    ("factory", "batch_norm", "order"),
    [
        (TRADES, "adversarial", "ca"),
        (TRADES, "mixed", "ccac"),
        (MART, "adversarial", "ca"),
        (MART, "mixed", "cca"),
    ],
)
def test_the_batches_that_running_statistics_see_are_those_published(factory, batch_norm, order):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(4), linear()[-1]).train()
    clean, seen = images(8), []
    model.register_forward_pre_hook(
        lambda module, args: seen.append("c" if torch.equal(args[0], clean) else "a") if module.training else None
    )
    (evaluate,) = factory(ATTACK, Threat(math.inf, 0.1), batch_norm=batch_norm)(model, clean, labels(8), noise())
    evaluate()
    assert "".join(seen) == order
