"""An attack: a few random corners of the ball, no gradient asked."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harp import Threat
from harp.randomness import Noise, fork, normal


@dataclass(frozen=True)
class Corners:
    """The first of some random corners of the L-inf ball that the network is wrong about, else the last."""

    tries: int = 4

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Noise) -> Tensor:
        best, broken = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for number in range(self.tries):
            adv = threat.project(x + threat.eps * normal(fork(noise, number), x).sign(), x)
            best = torch.where(broken[:, None, None, None], best, adv)
            broken |= model(adv).argmax(1) != y
        return best
