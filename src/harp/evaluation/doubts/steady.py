"""Doubts about networks that are no function of the image: whose answers depend on company, history or generators."""

from collections.abc import Iterator

import torch

from harp.attacks.losses import margin
from harp.evaluation.doubts.base import DOUBTS, FEW, Found, surely
from harp.evaluation.doubts.geometry import corners
from harp.evaluation.doubts.probes import signs, slope
from harp.evaluation.doubts.sample import Sample
from harp.evaluation.steadiness import SAME, apart, ask

# Batches of another size go through other kernels: float32 is off by 1e-6 of the largest logit there, TF32 by some
# 1e-3, a residual network computed in bfloat16 by 0.01. A change of answers that matters is of the logits' own size.
KERNELS = 0.05
# Images that are asked one at a time: a network that takes single ones for special does so for each.
ALONE = 8
# How far two gradients of the same loss at the same image may be apart, as a share of their length.
STEADY = 1e-2


@DOUBTS.register("batch-dependence")
def batch_dependence(sample: Sample) -> Found:
    """An image's logits depend on which others are in its batch: an attack on a batch is not one on its images."""
    # Every other image gives way to the first and the order is turned round; the batch's shape, and with it the
    # kernels, stay, so that rounding cannot be mistaken for dependence.
    others = sample.x.clone()
    others[1::2] = sample.x[0]
    logits = ask(sample.model, others.flip(0), sample.batch).flip(0)
    moved = apart(logits[::2], sample.logits[::2])
    if not moved > SAME or sample.random:
        return None
    return moved, f"In other company the same images' logits change by {moved:.2g} of their size."


@DOUBTS.register("batch-size")
def batch_size(sample: Sample) -> Found:
    """An image's logits depend on how many are asked at once: what a large batch withstands, one image may not."""
    if sample.company:
        return 1.0, "Asked for a single image the network fails; it answers two of the same."
    moved, size = max(_in_sizes(sample), default=(0.0, 0))
    if not moved > KERNELS or sample.random:
        return None
    asked = "alone" if size == 1 else f"in batches of {size}"
    return moved, f"Asked {asked} the same images' logits change by {moved:.2g} of their size."


def _in_sizes(sample: Sample) -> Iterator[tuple[float, int]]:
    """How far logits of batches of other sizes are from the sample's own, and the size: 1, 2, half and double."""
    whole = min(sample.batch or len(sample.x), len(sample.x))
    for size, images in ((1, ALONE), (2, 2 * ALONE), (-(-whole // 2), len(sample.x))):
        logits = ask(sample.model, sample.x[:images], size)
        yield apart(logits, sample.logits[:images]), size
    twice = ask(sample.model, torch.cat([sample.x[:whole], sample.x[:whole]]))
    yield apart(twice[whole:], sample.logits[:whole]), 2 * whole


@DOUBTS.register("moving-gradients")
def moving_gradients(sample: Sample) -> Found:
    """Where a gradient is asked for, it or the answer is another each time: attacks follow what is no slope."""
    if sample.m == 0 or sample.random:
        return None
    x, y, first = sample.x[sample.right], sample.y[sample.right], sample.gradients["margin"]
    logits, again = slope(sample.model, x, y, margin, sample.batch)
    plain = ask(sample.model, x, sample.batch)
    moved = apart(logits, plain)
    if moved > KERNELS:
        return moved, f"Logits that are asked for with a gradient are off by {moved:.2g} of their size."
    lengths = torch.maximum(first.flatten(1).norm(dim=1), again.flatten(1).norm(dim=1))
    count = int(((again - first).flatten(1).norm(dim=1) > STEADY * lengths).sum())
    if not surely(count, sample.m, FEW):
        return None
    return count / sample.m, f"At {count} of {sample.m} points the gradient is another when it is asked for again."


@DOUBTS.register("generator-reset")
def generator_reset(sample: Sample) -> Found:
    """The network sets torch's global generator: attacks that draw from it draw the same each time."""
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        ask(sample.model, sample.x[:1])
        states.append(torch.get_rng_state())
    return (1.0, "After each pass torch's global generator is in the same state.") if torch.equal(*states) else None


@DOUBTS.register("changing-state")
def changing_state(sample: Sample) -> Found:
    """What the network was asked changes what it answers: it learns of the attack, or of the images."""
    if sample.random:
        return None
    moved = apart(ask(sample.model, sample.x, sample.batch), sample.logits)
    for number, asked in enumerate((sample.x, sample.x.flip(-1))):
        near = corners(sample.threat, asked, signs(sample.noise.at(number), asked))
        # A network that knows the image may take what is near it for the image: one that was asked nothing cannot.
        there = sample.untouched.answers(near, sample.batch)
        if there is not None:
            ask(sample.model, asked, sample.batch)
            moved = max(moved, apart(ask(sample.model, near, sample.batch), there))
    if not moved > SAME:
        return None
    return moved, f"After other queries the same images' logits are off by {moved:.2g} of their size."
