"""Doubts about the answers themselves; all need a handful of forward passes."""

import torch
from torch import Tensor

from harp.evaluation.doubts.base import DOUBTS, Found
from harp.evaluation.doubts.probes import ask
from harp.evaluation.doubts.sample import Sample

# As a share of the largest centred logit. The same kernels on the same numbers: an honest network shows 0 on a CPU;
# dropout of a tenth of the pixels shows 0.5 to 0.8. A GPU that adds in changing order stays near float32's 1e-6.
SAME = 1e-4
REPEATS = 4


@DOUBTS.register("non-finite")
def non_finite(sample: Sample) -> Found:
    """Logits or gradients are NaN or infinite: attacks lose their way there, and NaN wins every comparison."""
    clean = int((~sample.logits.isfinite().all(1)).sum())
    attacked = int((~(sample.short.finite & sample.long.finite)).sum())
    gradients = sum(int((~grad.isfinite()).flatten(1).any(1).sum()) for grad in sample.gradients.values())
    if not clean + attacked + gradients:
        return None
    said = f"NaN or infinity: logits of {clean} clean and {attacked} attacked images, {gradients} gradients."
    return (clean + attacked + gradients) / len(sample.x), said


@DOUBTS.register("constant-output")
def constant_output(sample: Sample) -> Found:
    """All images get the same logits: the network is dead, and what it calls right no attack can change."""
    varied = (sample.x != sample.x[:1]).any()
    moved = _apart(sample.logits, sample.logits[:1].expand_as(sample.logits))
    if not varied or not moved <= SAME:
        return None
    return moved, f"The logits of {len(sample.x)} images differ by {moved:.1g} of their size."


@DOUBTS.register("softmax-outputs")
def softmax_outputs(sample: Sample) -> Found:
    """The outputs are probabilities, not logits: losses saturate, and those that need logits mean nothing."""
    # Float32 probabilities sum to 1 to 1e-6, bfloat16 ones to some 1e-2. Logits that do so in every row do not occur,
    # and log-probabilities are logits: shifting a row changes none of the losses.
    off = float((sample.logits.sum(1) - 1).abs().max())
    if sample.logits.min() < 0 or not off <= 0.02:
        return None
    return off, f"All outputs are at least 0, and each image's sum to 1 within {off:.1g}."


@DOUBTS.register("randomness")
def randomness(sample: Sample) -> Found:
    """The same images get other logits each time: a single run of an attack measures its luck, too."""
    moved = max(_apart(ask(sample.model, sample.x, sample.batch), sample.logits) for _ in range(REPEATS))
    if not moved > SAME:
        return None
    return moved, f"Repeated passes over the same images change logits by {moved:.2g} of their size."


@DOUBTS.register("batch-dependence")
def batch_dependence(sample: Sample) -> Found:
    """An image's logits depend on which others are in its batch: an attack on a batch is not one on its images."""
    # Every other image gives way to the first and the order is turned round; the batch's shape, and with it the
    # kernels, stay, so that rounding cannot be mistaken for dependence.
    others = sample.x.clone()
    others[1::2] = sample.x[0]
    logits = ask(sample.model, others.flip(0), sample.batch).flip(0)
    moved = _apart(logits[::2], sample.logits[::2])
    if not moved > SAME or DOUBTS["randomness"](sample):
        return None
    return moved, f"In other company the same images' logits change by {moved:.2g} of their size."


@DOUBTS.register("test-time-optimisation")
def test_time_optimisation(sample: Sample) -> Found:
    """The network differentiates while it answers: it adapts to each image, and attacks must adapt to that."""
    kept: list[torch.Size] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.shape)
        return tensor

    # With parameters frozen and gradients off, nothing is kept for a backward pass unless the network asks for one.
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        ask(sample.model, sample.x, sample.batch)
    said = f"A forward pass kept {len(kept)} tensors for a backward pass of its own."
    return (float(len(kept)), said) if kept else None


def _apart(some: Tensor, others: Tensor) -> float:
    """The largest difference as a share of the largest logit about its row's mean; NaN where there is a NaN."""
    size = (others - others.mean(1, keepdim=True)).abs().max()
    return float((some - others).abs().max() / size.clamp(min=torch.finfo(size.dtype).tiny))
