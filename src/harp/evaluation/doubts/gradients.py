"""Doubts about the input gradients that attacks follow, at the clean images that are answered rightly."""

import torch
from torch import Tensor

from harp.attacks.losses import margin
from harp.evaluation.doubts.base import DOUBTS, FEW, Found, surely
from harp.evaluation.doubts.geometry import dual, move
from harp.evaluation.doubts.probes import slope
from harp.evaluation.doubts.sample import Sample
from harp.evaluation.steadiness import ask
from harp.randomness import global_draws

# By how much a perturbation of the large radius can lower the margin to first order, as a share of it. Honest networks
# show 0.6 and more, those behind rounding, a table or argmax exactly 0, some behind a softmax 1e-6.
FLAT = 1e-4
# After a step of eps / 30 what the margin loss has gained, over what the gradient promised, is off by half at none of
# an honest network's points, at 0.33 to 0.61 of those of k-winners-take-all, at 0.98 behind a random dropout. Shorter
# steps meet too few of the winners' jumps (0.15 to 0.49 at eps / 100).
ASTRAY, STRAY = 0.5, 0.1
PARTS = (30, 10)


@DOUBTS.register("zero-gradients")
def zero_gradients(sample: Sample) -> Found:
    """The margin's gradient vanishes at points answered rightly: attacks by gradient cannot move there."""
    flat = _flat(sample)
    count = int(flat.sum())
    if not surely(count, sample.m, FEW):
        return None
    crossentropy = int((flat & _zero(sample.gradients["crossentropy"])).sum())
    said = f"At {count} of {sample.m} points the gradient of the margin vanishes, at {crossentropy} of these that of "
    return count / sample.m, said + "the cross-entropy is zero, too."


@DOUBTS.register("saturated-loss")
def saturated_loss(sample: Sample) -> Found:
    """The cross-entropy's gradient is zero where the margin's is not: logits too large for float32's softmax."""
    count = int((_zero(sample.gradients["crossentropy"]) & ~_flat(sample)).sum())
    if not surely(count, sample.m, FEW):
        return None
    largest = float(sample.margins.max())
    said = f"At {count} of {sample.m} points the gradient of the cross-entropy is zero and that of the margin is not; "
    return count / sample.m, said + f"the largest margin is {largest:.2g}."


@DOUBTS.register("misleading-gradients")
def misleading_gradients(sample: Sample) -> Found:
    """A small step changes the margin by another amount than its gradient promises: the gradient leads nowhere."""
    steep = sample.right[~_flat(sample)]
    if len(steep) == 0 or sample.threat.eps == 0:
        return None
    worst = max((_off(sample, steep, start, part), -part, start) for start in ("image", "ball") for part in PARTS)
    count, part, start = worst[0], -worst[1], worst[2]
    if not surely(count, len(steep), STRAY):
        return None
    where = "At" if start == "image" else "From random points of the ball, at"
    said = (
        f"{where} {count} of {len(steep)} points a step of eps / {part} along the gradient changes the margin by less "
    )
    return count / len(steep), said + "than half or more than one and a half times of what the gradient promises."


def _off(sample: Sample, chosen: Tensor, start: str, part: int) -> int:
    """At how many of the `chosen` points a step of eps / `part` gains something else than its gradient promises."""
    x, y, threat = sample.x[chosen], sample.y[chosen], sample.threat
    begin = x if start == "image" else sample.started(chosen)
    # With the same random numbers on both sides: what else a network draws is another doubt's affair.
    with global_draws(x.device, 0, "astray"):
        logits, grad = slope(sample.model, begin, y, margin, sample.batch)
    near = threat.project(begin + move(threat, grad, threat.eps / part), x)
    promised = (grad * (near - begin)).flatten(1).sum(1)
    with global_draws(x.device, 0, "astray"):
        gained = margin(ask(sample.model, near, sample.batch), y) - margin(logits, y)
    return int(((gained - promised).abs() > ASTRAY * promised).sum())


def _flat(sample: Sample) -> Tensor:
    reach = sample.large.eps * dual(sample.threat, sample.gradients["margin"])
    return ~(reach > FLAT * sample.margins)


def _zero(grad: Tensor) -> Tensor:
    # Below the smallest normal number some devices round to 0.
    return grad.flatten(1).abs().amax(1) < torch.finfo(grad.dtype).tiny
