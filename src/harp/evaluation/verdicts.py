"""One batch under one attack: who is still right, and the images that prove the others wrong."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from harp.ambient import precise, usable
from harp.attacks import Attack
from harp.attacks.losses import wrong
from harp.errors import HarpError
from harp.evaluation.steadiness import Untouched
from harp.modes import evaluating
from harp.randomness import Keyed
from harp.ranks import ALONE, Ranks
from harp.threats import Threat

# How far rounding may carry an image out of ball and box, in pixel units, or as a share of an eps above 1.
SLACK = 1e-6


def attacked(
    model: nn.Module,
    attack: Attack,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    noise: Keyed,
    untouched: Untouched | None = None,
) -> tuple[Tensor, Tensor]:
    """Where `model` (in eval mode) is still right, bool [n], and what the attack made of every image, [n, c, h, w].

    With `untouched`, the network before its first query, that has to be right, too. A logit that is not finite is a
    wrong answer. Raises `HarpError` where an image lies outside the threat by more than 1e-6.
    """
    # Copies, so that an attack that works in place cannot move what its images are measured by.
    adv = attack(model, x.clone(), y.clone(), threat, noise)
    excess = float(threat.excess(adv, x).max())
    if not excess <= SLACK * max(1, threat.eps):
        raise HarpError(f"{attack!r} left the threat by {excess:.2g}")
    with torch.no_grad():
        held = ~wrong(model(adv.clone()), y)
    return (held if untouched is None else untouched.held(held, adv, y)), adv


@precise()
def correct(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    attack: Attack | None,
    threat: Threat,
    seed: int,
    *names: str | int,
    ranks: Ranks = ALONE,
) -> Tensor:
    """A bool tensor [n] on the CPU: where the model is right, on clean images if `attack` is None.

    Under attack an example counts as right only if it is right clean, too, so only those are attacked. An example's
    noise is named by (seed, *names) and its place among all. Of several `ranks` each measures some of the batches.
    """
    flags, place = [], 0
    with evaluating(model):
        for index, (x, y) in enumerate(map(usable, batch) for batch in batches):
            flags.append(torch.zeros(len(x), dtype=torch.bool))
            place += len(x)
            if index % ranks.size != ranks.rank:
                continue
            with torch.no_grad():
                right = ~wrong(model(x), y)
            if attack is not None and right.any():
                noise = Keyed.of(place - len(x) + right.nonzero().squeeze(1), seed, *names)
                held, _ = attacked(model, attack, x[right], y[right], threat, noise)
                right = right.masked_scatter(right, held)
            flags[-1] = right.cpu()
    return ranks.mean(torch.cat(flags).float()) > 0
