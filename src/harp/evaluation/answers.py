"""What a network says of some images, by which its record knows it again."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harp.attacks.losses import gradient
from harp.errors import HarpError
from harp.modes import frozen
from harp.randomness import Keyed, global_draws
from harp.runs import Tree
from harp.threats import Threat

KEPT = 16  # images of each batch: enough to tell two networks apart
# Another machine or number of threads rounds otherwise: a share of the largest logit.
CLOSE = 1e-3
# Gradients at a kink differ by whole paths, but not by a tenth, and not at half of the images.
STEEP = 0.1
AWAY = 0.1  # how far into the box, as a share of its width: beyond what an eps reaches, still an image


def answered(model: nn.Module, x: Tensor, first: int = 0) -> Tensor:
    """The network's answer to a copy of `x`, whose first image is the set's image `first`, without gradients.

    Raises `HarpError` where it fails, and where it changes the images it was given.
    """
    shown = x.clone()
    try:
        with torch.no_grad():
            logits: Tensor = model(shown)
    except HarpError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
        raise HarpError(f"the network fails on the batch of {len(x)} from image {first} on ({reason})") from error
    if not torch.equal(shown, x):
        raise HarpError("the network changes the images it is given in place; expected one that works on a copy")
    return logits


@dataclass(frozen=True)
class Asker:
    """What is asked of a network, always in the same way: `seed` names the noise, `threat` has the box."""

    model: nn.Module
    threat: Threat
    seed: int

    def __call__(self, x: Tensor, index: int) -> Tree:
        """Of the first images of batch `index`: logits, and of the very first batch also those nearby and their slope.

        All is asked with torch's, numpy's and Python's generators at the same seed. "random" says that a second call
        answered otherwise; "slope" is missing where there are no gradients.
        """
        x = x[:KEPT]
        logits, again = (self._logits(x, index) for _ in range(2))
        found: Tree = {"logits": logits, "random": not _near(logits, again, CLOSE)}
        if index == 0:
            noise = Keyed.of(torch.arange(len(x), device=x.device), self.seed, "nearby")
            near = (x + self._far * noise.uniform(x.shape[1:], -1, 1).to(x)).clamp(self.threat.low, self.threat.high)
            found["nearby"] = self._logits(near, index)
            slope = self._slope(near, noise.at(1), index)
            found |= {} if slope is None else {"slope": slope}
        return found

    @property
    def _far(self) -> float:
        return AWAY * (self.threat.high - self.threat.low)

    def _logits(self, x: Tensor, index: int) -> Tensor:
        with global_draws(x.device, self.seed, "answers", index):
            return answered(self.model, x, 0)

    def _slope(self, x: Tensor, noise: Keyed, index: int) -> Tensor | None:
        """The gradient of a random direction of the logits, which no saturated loss can hide."""
        image = x.clone().requires_grad_()
        # Whatever a network without a backward pass raises, it has no slope to be known by.
        try:
            with global_draws(x.device, self.seed, "answers", index), frozen(self.model), torch.enable_grad():
                logits = self.model(image * 1)
                return gradient((logits * noise.normal(logits.shape[1:]).to(logits)).sum(), image)
        except Exception:
            return None


def same_answers(before: Tree, now: Tree) -> bool:
    """Whether two networks' answers to the same questions are one network's, up to rounding."""
    if "slope" in before and "slope" in now and not _parallel(before["slope"].to(now["slope"]), now["slope"]):
        return False
    return all(_near(before[name].to(now[name]), now[name], CLOSE) for name in ("logits", "nearby") if name in before)


def _near(there: Tensor, here: Tensor, share: float) -> bool:
    finite = there[there.isfinite()]
    size = max(1e-6, float(finite.abs().max())) if len(finite) else 1.0
    return there.shape == here.shape and torch.allclose(there, here, rtol=0, atol=share * size, equal_nan=True)


def _parallel(there: Tensor, here: Tensor) -> bool:
    if there.shape != here.shape:
        return False
    there, here = there.nan_to_num().flatten(1).double(), here.nan_to_num().flatten(1).double()
    off = (there - here).norm(dim=1) > STEEP * there.norm(dim=1)
    return 2 * int(off.sum()) <= len(off)
