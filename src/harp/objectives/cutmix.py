"""Images with a part of another one in them, and labels that say how large it is."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from harp.errors import HarpError
from harp.objectives.base import Around, Closure, Objective


@dataclass
class CutMix(Around):
    """The loss of images of which a box is another image's, attacked as they are then (CutMix; Yun et al., ICCV 2019).

    In the share `share` of the batches, drawn batch by batch: a box of a share of the area that is uniform in [0, 1],
    cut off where it leaves the image, is taken from the batch's next image (of several processes, from the next of its
    own part), and of `classes` both labels count by the area that is left of them. The loss is then against these
    probabilities, in the attack, too. It helps adversarial training where weights are averaged (Rebuffi et al., NeurIPS
    2021). Raises `HarpError` for an objective that needs one label an image.
    """

    objective: Objective
    share: float
    classes: int

    def __post_init__(self) -> None:
        if not self.objective.takes_probabilities:
            raise HarpError(
                f"cutmix is {self.share:g}, but {type(self.objective).__name__} learns from one label an image; "
                "expected cutmix 0, or an objective other than mart, fast-at and pwoa"
            )

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        drawn = torch.rand(4, generator=noise, device=x.device, dtype=torch.float32).tolist()
        if drawn[0] >= self.share:
            return self.objective(model, x, y, noise)
        x, left = mixed(x, *drawn[1:])
        labels = one_hot(y, self.classes).to(x.dtype)
        return self.objective(model, x, left * labels + (1 - left) * labels.roll(1, 0), noise)


def mixed(x: Tensor, area: float, down: float, right: float) -> tuple[Tensor, float]:
    """Images [n, c, h, w] with a box of each one's neighbour, and the share of their area that is still their own.

    The box has the share `area` of it, in the image's own shape, and its centre at the shares `down` and `right` of
    height and width; what would lie outside of the image is cut off.
    """
    h, w = x.shape[2:]
    top, bottom = _stretch(h, area, down)
    left, stop = _stretch(w, area, right)
    x = x.clone()
    x[:, :, top:bottom, left:stop] = x.roll(1, 0)[:, :, top:bottom, left:stop]
    return x, 1 - (bottom - top) * (stop - left) / (h * w)


def _stretch(length: int, area: float, centre: float) -> tuple[int, int]:
    half, middle = int(length * area**0.5) / 2, int(length * centre)
    return max(0, int(middle - half)), min(length, int(middle + half))
