"""What attacks maximise: per-example losses of logits [n, classes], higher for a more wrong answer.

Wrong is what labels [n] say, or, for `divergence`, what the model itself says of the clean images. `wrong` is the
verdict itself.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

Loss = Callable[[Tensor, Tensor], Tensor]

# Keeps a ratio of logits finite where the leading three are equal.
TINY = 1e-12


def wrong(logits: Tensor, y: Tensor) -> Tensor:
    """Whether each answer is wrong, bool [n]: its largest logit is another class's, or some logit is not finite.

    Infinite and undefined logits are no answer: `argmax` names the first of them, be it the right class or not.
    """
    return (logits.argmax(1) != y) | ~logits.isfinite().all(1)


def gradient(total: Tensor, x: Tensor, again: bool = False) -> Tensor:
    """The gradient of `total`, a loss summed over the batch, at each image of `x`; 0 where no path leads back to it.

    For the input alone: a full backward pass would fill every weight's gradient, too. `again` keeps the graph for
    another total.
    """
    found = torch.autograd.grad(total, x, retain_graph=again, allow_unused=True)[0] if total.requires_grad else None
    return torch.zeros_like(x, requires_grad=False) if found is None else found


def crossentropy(logits: Tensor, y: Tensor) -> Tensor:
    """The cross-entropy of each example, shape [n]."""
    return cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """The best wrong logit minus the right one, shape [n]; positive where the answer is wrong.

    The objective of Carlini & Wagner (S&P 2017, section V) without its cut-off at a confidence.
    """
    right = logits.gather(1, y[:, None]).squeeze(1)
    wrong = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    return wrong - right


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """The margin over the largest logit's lead on the third, shape [n]: a loss that no scale or shift changes.

    The difference of logits ratio (Croce & Hein, ICML 2020, section 4). Of two classes it is the margin itself.
    """
    if logits.shape[1] < 3:
        return margin(logits, y)
    top = logits.topk(3).values
    return margin(logits, y) / (top[:, 0] - top[:, 2] + TINY)


def probability_margin(logits: Tensor, y: Tensor) -> Tensor:
    """1 + the best wrong class's probability minus the right one's, shape [n], in [0, 2]; above 1 where it is wrong.

    The probability margin of PMA (arXiv 2411.15210), of softmax outputs, but for the 1. Written as a sum of wrong
    classes' probabilities, so that of an answer as sure as 1 - 1e-30 loss and gradient are not 0 in float32.
    """
    others = logits.log_softmax(1).scatter(1, y[:, None], -torch.inf).exp()
    return others.amax(1) + others.sum(1)


def dlr_towards(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """The logit of `target` minus that of `y`, over the largest's lead on the mean of third and fourth, shape [n].

    The targeted difference of logits ratio (Croce & Hein, ICML 2020, section 4). Of three classes the lead is that
    on the third; of two the difference stands alone.
    """
    classes = torch.stack([y, target], 1)
    right, wanted = logits.gather(1, classes).unbind(1)
    if logits.shape[1] < 3:
        return wanted - right
    top = logits.topk(min(4, logits.shape[1])).values
    return (wanted - right) / (top[:, 0] - top[:, 2:].mean(1) + TINY)


def crossentropy_towards(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """The log-probability of the class `target`, shape [n]; what the right one is plays no part."""
    return -crossentropy(logits, target)


def divergence(logits: Tensor, clean: Tensor) -> Tensor:
    """KL(p || q) of each example, shape [n]; p is the softmax of the `clean` logits, q that of `logits`.

    Differentiable in both. What TRADES attacks and punishes (Zhang et al., ICML 2019, section 3.2).
    """
    terms = kl_div(logits.log_softmax(1), clean.log_softmax(1), reduction="none", log_target=True)
    return terms.sum(1)


LOSSES: dict[str, Loss] = {
    "crossentropy": crossentropy,
    "dlr": dlr,
    "margin": margin,
    "probability-margin": probability_margin,
}
TARGETED: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "crossentropy": crossentropy_towards,
    "dlr": dlr_towards,
}
