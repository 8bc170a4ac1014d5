"""TRADES and MART: a loss of the answers given, and the divergence between clean and adversarial answers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from harp.attacks import PGD
from harp.attacks.losses import crossentropy, divergence
from harp.objectives.base import OBJECTIVES, BatchNorm, Closure, Objective, observe
from harp.threats import Threat


@OBJECTIVES.register("trades")
@dataclass(frozen=True)
class TRADES(Objective):
    """CE(f(x), y) + `beta` KL(p(x) || p(x')), x' where the divergence is largest (TRADES; Zhang et al., ICML 2019).

    Of `attack` the steps, their size and the restarts count; loss and start are the method's own. Running statistics
    see the clean, then the adversarial batch; with `batch_norm` "mixed" four, as published: clean before the attack,
    then clean, adversarial, clean. Labels are smoothed by `smoothing`.
    """

    attack: PGD
    threat: Threat
    beta: float = 6.0
    batch_norm: BatchNorm = "adversarial"
    smoothing: float = 0.0

    takes_probabilities: ClassVar[bool] = True

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        observe(model, x, self.batch_norm)
        adv = replace(self.attack, loss="kl", start="gaussian")(model, x, y, self.threat, noise)

        def evaluate() -> Tensor:
            # One clean forward serves both terms. The published code makes a second, which only statistics can tell.
            clean = model(x)
            p, q = clean.log_softmax(1), model(adv).log_softmax(1)
            observe(model, x, self.batch_norm)
            told = cross_entropy(clean, y, label_smoothing=self.smoothing)
            return told + self.beta * kl_div(q, p, reduction="batchmean", log_target=True)

        yield evaluate


@OBJECTIVES.register("mart")
@dataclass(frozen=True)
class MART(Objective):
    """BCE(f(x'), y) + `beta` KL(p(x) || p(x')) (1 - p_y(x)), x' from PGD (MART; Wang et al., ICLR 2020).

    BCE is -log p_y(x') - log(1 - max p_j(x') over j other than y); `beta` is the paper's lambda. Of `attack` the
    steps, their size and the restarts count; loss and start are the method's own. Running statistics see the clean,
    then the adversarial batch; with `batch_norm` "mixed" the clean one before the attack, too.
    """

    attack: PGD
    threat: Threat
    beta: float = 5.0
    batch_norm: BatchNorm = "adversarial"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        observe(model, x, self.batch_norm)
        adv = replace(self.attack, loss="crossentropy", start="gaussian")(model, x, y, self.threat, noise)

        def evaluate() -> Tensor:
            clean, attacked = model(x), model(adv)
            doubt = -torch.expm1(-crossentropy(clean, y))  # 1 - p_y
            return boosted(attacked, y) + self.beta * (divergence(attacked, clean) * doubt).mean()

        yield evaluate


def boosted(logits: Tensor, y: Tensor) -> Tensor:
    """The mean cross-entropy, plus that of the likeliest wrong class against its absence (MART, section 3.2)."""
    wrong = logits.softmax(1).scatter(1, y[:, None], 0).amax(1)
    # As published: 1.0001 keeps the logarithm finite where a wrong class has all the probability.
    return cross_entropy(logits, y) - torch.log(1.0001 - wrong + 1e-12).mean()
