"""Doubts about the answers themselves; all need a handful of forward passes."""

import torch
from torch import Tensor

from harp.attacks.losses import margin
from harp.evaluation.doubts.base import DOUBTS, Found
from harp.evaluation.doubts.probes import Climb
from harp.evaluation.doubts.sample import SHORT, Sample
from harp.evaluation.statistics import wilson
from harp.evaluation.steadiness import SAME, apart, ask

# A network that is wrong in 45 % of cases between two classes gives as many wrong answers, all the same, once in 600.
ALIKE = 8
# How far above guessing an accuracy is that nobody takes for it, as a share of the way from there to 1.
ABOVE = 0.1


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
    moved = apart(sample.logits, sample.logits[:1].expand_as(sample.logits))
    if not varied or not moved <= SAME:
        return None
    return moved, f"The logits of {len(sample.x)} images differ by {moved:.1g} of their size."


@DOUBTS.register("constant-answer")
def constant_answer(sample: Sample) -> Found:
    """Every image gets the same class, though the labels differ: where that class is right, no attack can change it."""
    answers = sample.logits.argmax(1)
    others = int((sample.y != answers[0]).sum())
    if (answers != answers[0]).any() or not (sample.y != sample.y[0]).any():
        return None
    # Few images may get one answer by chance. They keep it up to the large radius only where nothing can change it.
    if others < ALIKE:
        climb = Climb(margin, SHORT, sample.batch)
        if climb(sample.model, sample.x, answers, sample.large, sample.noise).broken.any():
            return None
    said = f"All {len(answers)} images are answered with class {int(answers[0])}; {others} have another label."
    return others / len(answers), said


@DOUBTS.register("chance")
def chance(sample: Sample) -> Found:
    """The network is right no more often than a guess, so what no attack changed is luck."""
    clean = sample.flags.get("clean", sample.logits.argmax(1) == sample.y)
    right, n, guess = int(clean.sum()), len(clean), 1 / sample.logits.shape[1]
    low, high = wilson(right, n)
    # A network that is never right claims nothing. Few images, or an accuracy surely above guessing, prove nothing.
    if right == 0 or low > guess or high > guess + ABOVE * (1 - guess):
        return None
    return right / n, f"{right} of {n} images are answered rightly, {right / n:.1%}; guessing gets {guess:.1%}."


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
    if not sample.random:
        return None
    return (
        sample.wavering,
        f"Repeated passes over the same images change logits by {sample.wavering:.2g} of their size.",
    )


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
