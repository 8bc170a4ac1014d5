"""PwoA's loss: what a robust teacher answers, and how much the layers know of images and labels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, one_hot

from harp.attacks import Attack
from harp.errors import HarpError
from harp.objectives.base import OBJECTIVES, Closure
from harp.objectives.dependence import gaussian, linear, nhsic, normalised
from harp.objectives.teaching import Taught
from harp.sparsity import find_weights
from harp.threats import Threat


@OBJECTIVES.register("pwoa")
@dataclass
class Distillation(Taught):
    """The answers of a robust teacher, with or without adversarial images (PwoA; Jian et al., ICDM 2022).

    `beta` T^2 / C times KL(p_teacher || p), both at temperature T, C the number of classes; plus, of each layer's
    outputs z, `hsic_x` nHSIC(x, z) - `hsic_y` nHSIC(y, z), the one place where labels count. x is attacked in the share
    `attacked` of the batches, drawn batch by batch; the paper has results for both. Layers are all modules that hold a
    weight themselves but the one called last, which gives the logits; each counts as often as it is called.

    `teacher` as in `Taught`. Raises `HarpError` where no layer is seen.
    """

    attack: Attack
    threat: Threat
    teacher: nn.Module = field(repr=False)
    beta: float = 10.0
    temperature: float = 30.0
    hsic_x: float = 2e-5
    hsic_y: float = 1e-4
    attacked: float = 0.0

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Iterator[Closure]:
        attacked = self.attacked and torch.rand((), generator=noise, device=x.device) < self.attacked
        seen = self.attack(model, x, y, self.threat, noise) if attacked else x
        with torch.no_grad():
            taught = self.taught(seen)

        def evaluate() -> Tensor:
            if not self.hsic_x and not self.hsic_y:
                return self._answers(model(seen), taught)
            with layers(model) as outputs:
                logits = model(seen)
            told = self._told(outputs, seen, one_hot(y, logits.shape[1]))
            return self._answers(logits, taught) + told.to(logits.dtype)

        yield evaluate

    def _answers(self, logits: Tensor, taught: Tensor) -> Tensor:
        hot = self.temperature
        p, q = (taught / hot).log_softmax(1), (logits / hot).log_softmax(1)
        # The mean over images and classes, as published.
        mean = kl_div(q, p, reduction="batchmean", log_target=True) / logits.shape[1]
        return self.beta * hot**2 * mean

    def _told(self, outputs: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
        if not outputs:
            raise HarpError(
                "pwoa saw no layer's output, for no module that was called holds a weight; set hsic_x and hsic_y to 0"
            )
        images, labels = normalised(gaussian(x)), normalised(linear(y))
        hidden = [normalised(gaussian(z)) for z in outputs[:-1] or outputs]
        return torch.stack([self.hsic_x * nhsic(images, z) - self.hsic_y * nhsic(labels, z) for z in hidden]).sum()


@contextmanager
def layers(model: nn.Module) -> Iterator[list[Tensor]]:
    """What each module with a weight of its own gives within it, in the order of the calls."""
    found: list[Tensor] = []

    def note(module: nn.Module, images: object, output: object) -> None:
        # Attention returns its weights, too, after what it gives.
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor):
            found.append(first)

    owners = {site.name.rpartition(".")[0] for site in find_weights(model)}
    hooks = [model.get_submodule(owner).register_forward_hook(note) for owner in sorted(owners)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
