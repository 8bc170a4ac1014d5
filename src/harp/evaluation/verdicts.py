"""One batch under one attack: who is still right, and the images that prove the others wrong."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from harp.ambient import precise, usable
from harp.attacks import Attack
from harp.attacks.losses import wrong
from harp.errors import HarpError
from harp.evaluation.expected import draws_of, votes
from harp.evaluation.inputs import form
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
) -> tuple[Tensor, Tensor, Tensor]:
    """Where `model` (in eval mode) is still right, bool [n], what the attack made of every image, [n, c, h, w], and how
    many answers to that were right, int64 [n]: all that count (`Expected`) where it is.

    With `untouched`, the network before its first query, that has to be right, too. A logit that is not finite is a
    wrong answer. Raises `HarpError` where an image lies outside the threat by more than 1e-6, and where the attack
    gives something else than images like `x`.
    """
    # Copies, so that an attack that works in place cannot move what its images are measured by.
    adv = _images(attack(model, x.clone(), y.clone(), threat, noise), x, attack)
    excess = float(threat.excess(adv, x).max())
    if not excess <= SLACK * max(1, threat.eps):
        raise HarpError(f"{attack!r} left the threat by {excess:.2g}")
    right = votes(model, adv, y)
    held = right == draws_of(model)
    return (held if untouched is None else untouched.held(held, adv, y)), adv, right


def _images(adv: object, x: Tensor, attack: Attack) -> Tensor:
    if not isinstance(adv, Tensor) or adv.shape != x.shape or adv.dtype != x.dtype or adv.device != x.device:
        got = form(adv) if isinstance(adv, Tensor) else f"a {type(adv).__name__}"
        raise HarpError(f"{attack!r} gives {got}; expected {form(x)} on {x.device}, an image for each it was given")
    return adv.detach()


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
                held, _, _ = attacked(model, attack, x[right], y[right], threat, noise)
                right = right.masked_scatter(right, held)
            flags[-1] = right.cpu()
    return ranks.mean(torch.cat(flags).float()) > 0
