"""Gates that drop channels at random by learned probabilities: the beta-Bernoulli dropout of ANP-VS (ICML 2020)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

EULER = 0.5772156649
TEMPERATURE = 0.1
PRIOR = 1e-4  # alpha of the prior Beta(alpha, 1), which wants every channel gone
SHUT = 1e-3  # gates no more open than this count as closed
EDGE = 1e-6  # probabilities keep this distance from 0 and 1, where logits are infinite


@dataclass(frozen=True)
class Gates:
    """One gate a channel, open with a probability drawn from Kumaraswamy(a, b), whose raw parameters are learned.

    `raw_a`, `raw_b` float [channels]; a = softplus(raw a), b = softplus(raw b), raw values cut off at -10 and 50.
    """

    raw_a: nn.Parameter
    raw_b: nn.Parameter

    @property
    def a(self) -> Tensor:
        return softplus(self.raw_a.clamp(min=-10))

    @property
    def b(self) -> Tensor:
        return softplus(self.raw_b.clamp(-10, 50))

    def mean(self) -> Tensor:
        """The expected probability b B(1 + 1/a, b), [channels]."""
        a, b = self.a, self.b
        inverse = 1 + 1 / a
        return (b.log() + torch.lgamma(inverse) + torch.lgamma(b) - torch.lgamma(inverse + b)).exp()

    def divergence(self) -> Tensor:
        """KL from the prior, [channels] (Madaan et al., equation 9)."""
        a, b = self.a, self.b
        return (1 - PRIOR / a) * (-EULER - torch.digamma(b) - 1 / b) + (a * b / PRIOR).log() - (b - 1) / b

    def drawn(self, once: Tensor, each: Tensor) -> Tensor:
        """Relaxed gates in [0, 1], [n, channels], of uniform numbers `once` [channels] and `each` [n, channels]."""
        chance = (1 - _inside(once) ** (1 / self.b)).clamp(min=EDGE) ** (1 / self.a)
        return torch.sigmoid((_logit(each) + _logit(chance)) / TEMPERATURE)


def _inside(chance: Tensor) -> Tensor:
    return chance.clamp(EDGE, 1 - EDGE)


def _logit(chance: Tensor) -> Tensor:
    return torch.logit(_inside(chance))
