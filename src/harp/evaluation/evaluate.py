"""Accuracy under attack, example by example."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harp.attacks import Attack
from harp.errors import HarpError
from harp.evaluation.statistics import wilson
from harp.modes import evaluating
from harp.randomness import generator
from harp.threats import Threat

Flags = Mapping[str, Tensor]
"""Measure -> bool tensor [n], true where the model was right: "clean", each attack, and "worst", right under all."""

# Projection rounds once per coordinate; as a share of the box that is far below this.
SLACK = 1e-5


def correct(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    attack: Attack | None,
    threat: Threat,
    noise: Callable[[int, torch.device], torch.Generator],
    tick: Callable[[int], None] = lambda n: None,
) -> Tensor:
    """A bool tensor [n] on the CPU: where the model is right, on clean images if `attack` is None.

    Under attack an example counts as right only if it is right clean, too, so only those are attacked. `noise` makes
    the generator of a batch from its number and device; `tick` is called with each batch's size. Raises `HarpError`
    where an attack leaves what the threat allows.
    """
    flags = []
    with evaluating(model):
        for index, (x, y) in enumerate(batches):
            with torch.no_grad():
                right = model(x).argmax(1) == y
            if attack is not None and right.any():
                held = _holds(model, attack, x[right], y[right], threat, noise(index, x.device))
                right = right.masked_scatter(right, held)
            flags.append(right.cpu())
            tick(len(x))
    return torch.cat(flags)


def _holds(model: nn.Module, attack: Attack, x: Tensor, y: Tensor, threat: Threat, noise: torch.Generator) -> Tensor:
    adv = attack(model, x, y, threat, noise)
    excess = float(threat.excess(adv, x).max())
    if not excess <= SLACK * (threat.high - threat.low):
        raise HarpError(f"{attack!r} left the threat by {excess:.2g}")
    with torch.no_grad():
        logits: Tensor = model(adv)
    return logits.argmax(1) == y


def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    attacks: Mapping[str, Attack],
    threat: Threat,
    seed: int = 0,
) -> Flags:
    """The flags of "clean", of every attack by its name, and of "worst"; noise from (seed, "evaluate", name, batch).

    `batches` is iterated once per measure and must give the same (x, y) every time. Raises `HarpError` for an attack
    that is called "clean" or "worst".
    """
    taken = {"clean", "worst"} & set(attacks)
    if taken:
        raise HarpError(f"an attack cannot be called {taken.pop()!r}: that measure is always taken")
    flags: dict[str, Tensor] = {}
    for name, attack in {"clean": None, **attacks}.items():
        flags[name] = correct(model, batches, attack, threat, evaluation_noise(seed, name))
    return {**flags, "worst": worst(flags)}


def worst(flags: Flags) -> Tensor:
    """Where the model is right under every measure in `flags`."""
    return torch.stack(list(flags.values())).all(0)


def evaluation_noise(seed: int, name: str) -> Callable[[int, torch.device], torch.Generator]:
    """For each batch of the measure `name` a generator of its own."""
    return lambda index, device: generator(seed, "evaluate", name, index, device=device)


def summary(flags: Flags) -> dict[str, dict[str, Any]]:
    """Each measure's accuracy in [0, 1], its 95 % Wilson interval (low, high) and n."""
    rows = {}
    for name, right in flags.items():
        low, high = wilson(int(right.sum()), len(right))
        rows[name] = {"accuracy": int(right.sum()) / len(right), "low": low, "high": high, "n": len(right)}
    return rows
