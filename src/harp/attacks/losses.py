"""What attacks maximise: per-example losses of logits [n, classes] and labels [n], higher for a more wrong answer."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

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


LOSSES: dict[str, Loss] = {"crossentropy": crossentropy, "margin": margin}
