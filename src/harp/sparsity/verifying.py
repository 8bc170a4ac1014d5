"""The proof, by numbers, that silenced and removed channels give the same logits."""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from harp.errors import HarpError
from harp.sparsity.groups import Group
from harp.sparsity.removal import remove

IMAGES, PIXELS = 3, 4096  # at least three images for batch norm, more of small ones: a dead ReLU shows nothing
EQUAL = 1e-6  # in float64 equal logits differ by 1e-12; where a network casts to float32 inside, by 1e-7
VARIED = 1e-4


def excited(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """A float64 copy on the CPU, in eval mode, in which every parameter and every statistic matters.

    Layer scales of 1e-6, fresh batch norms and zero biases would hide a wrong index: parameters become random, those
    of two or more axes normal with the variance 2 / fan-in, and running statistics too. Other buffers (a mean of the
    images, a table of positions) stay.
    """

    def uniform(low: float, tensor: Tensor) -> Tensor:
        return low + torch.rand(tensor.shape, generator=generator, dtype=torch.float64)

    model = copy.deepcopy(model).cpu().double().eval().requires_grad_()

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(noise * (2 * len(parameter) / parameter.numel()) ** 0.5)
            else:
                parameter.copy_(uniform(-0.25 if name.endswith("bias") else 0.5, parameter))
        for module in model.modules():
            if isinstance(module, _NormBase) and module.running_mean is not None and module.running_var is not None:
                module.running_mean.copy_(uniform(-0.5, module.running_mean))
                module.running_var.copy_(uniform(0.5, module.running_var))
    return model


class Verifier:
    """Compares silenced with smaller networks, logit by logit, on one random batch.

    `model` is an excited one and stays as it is; `example` gives the shape of an image. Raises `HarpError` where the
    logits are no tensor or do not vary with the images: then nothing could be verified.
    """

    def __init__(self, model: nn.Module, example: Tensor, generator: torch.Generator):
        self.model, self.generator = model, generator
        count = min(max(IMAGES, PIXELS // example[0].numel()), 64)
        self.images = torch.randn((count, *example.shape[1:]), generator=generator, dtype=torch.float64)
        self.logits = self._logits(model)
        if not _differ(self.logits, self.logits[:1].expand_as(self.logits), VARIED):
            raise HarpError("the network's logits do not vary with its images, so no channel could be verified")
        self.modes = (False,) if self._stochastic() else (False, True)

    def sound(self, groups: Sequence[Group]) -> tuple[list[Group], dict[str, str]]:
        """The groups that give equal logits when silenced and when removed, also all together; why others do not."""
        if not groups or self._fault(groups) is None:
            return list(groups), {}
        reasons = {group.name: reason for group in groups if (reason := self._fault([group])) is not None}
        left = [group for group in groups if group.name not in reasons]
        if not left or self._fault(left) is None:
            return left, reasons
        # Each alone is sound and all together are not: what fails with those before it has to stay.
        together: list[Group] = []
        for group in left:
            reason = self._fault([*together, group])
            if reason is None:
                together.append(group)
            else:
                reasons[group.name] = f"with other groups, {reason}"
        return together, reasons

    def _fault(self, groups: Sequence[Group]) -> str | None:
        keep = {group.name: self._some(group.size) for group in groups}
        reason = self._compare(groups, keep, self.modes)
        # The complement too, so that every unit is removed once.
        return reason or self._compare(groups, {name: ~mask for name, mask in keep.items()}, (False,))

    def _some(self, size: int) -> Tensor:
        order = torch.randperm(size, generator=self.generator)
        return order < size // 2  # a group has at least two units

    def _compare(self, groups: Sequence[Group], keep: Mapping[str, Tensor], modes: Sequence[bool]) -> str | None:
        smaller = remove(self.model, groups, keep)
        try:
            found = [self._logits(smaller, mode) for mode in modes]
        except Exception as error:
            text = str(error).strip().partition("\n")[0]
            return f"the smaller network fails ({type(error).__name__}: {text})"
        silenced = _silenced(self.model, groups, keep)
        for mode, logits in zip(modes, found, strict=True):
            expected = self._logits(silenced, mode)
            if _differ(expected, logits, EQUAL):
                return "removing its channels changes the logits otherwise than silencing them"
            if not mode and not _differ(expected, self.logits, VARIED):
                return "silencing its channels changes no logit"
        return None

    def _logits(self, model: nn.Module, training: bool = False) -> Tensor:
        with torch.no_grad():
            logits = model.train(training)(self.images)
        if not isinstance(logits, Tensor):
            kind = type(logits).__name__
            raise HarpError(f"the network returns an object of type {kind}; expected a tensor of logits")
        return logits

    def _stochastic(self) -> bool:
        """Whether train mode draws random numbers (dropout, stochastic depth), which leaves nothing to compare."""
        with torch.random.fork_rng(devices=[]):
            before = torch.random.get_rng_state()
            self._logits(copy.deepcopy(self.model), training=True)
            return not torch.equal(before, torch.random.get_rng_state())


def _silenced(model: nn.Module, groups: Sequence[Group], keep: Mapping[str, Tensor]) -> nn.Module:
    model = copy.deepcopy(model)
    tensors = dict(model.named_parameters())
    with torch.no_grad():
        for group in groups:
            for part in group.consumers:
                weight = tensors[part.name]
                gone = (~part.mask(keep[group.name])).nonzero().flatten()
                weight.index_fill_(part.axis, gone, 0)
    return model


def _differ(expected: Tensor, found: Tensor, tolerance: float) -> bool:
    if expected.shape != found.shape:
        return True
    # Not "larger than": NaN differs from everything.
    return not bool((expected - found).abs().max() <= tolerance * expected.abs().max())
