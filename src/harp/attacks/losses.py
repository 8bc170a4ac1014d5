"""What attacks maximise: per-example losses of logits [n, classes], higher for a more wrong answer.

Wrong is what labels [n] say, or, for `divergence`, what the model itself says of the clean images.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

Loss = Callable[[Tensor, Tensor], Tensor]


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


def divergence(logits: Tensor, clean: Tensor) -> Tensor:
    """KL(p || q) of each example, shape [n]; p is the softmax of the `clean` logits, q that of `logits`.

    Differentiable in both. What TRADES attacks and punishes (Zhang et al., ICML 2019, section 3.2).
    """
    terms = kl_div(logits.log_softmax(1), clean.log_softmax(1), reduction="none", log_target=True)
    return terms.sum(1)


LOSSES: dict[str, Loss] = {"crossentropy": crossentropy, "margin": margin}
