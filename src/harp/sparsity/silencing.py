"""The proof, by numbers, that silenced and removed channels give the same logits."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from harp.copies import copied
from harp.errors import HarpError
from harp.sparsity.groups import Group
from harp.sparsity.removal import cut, remove

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

    model = copied(model).cpu().double().eval().requires_grad_()

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
        try:
            self.logits = _logits(model, self.images, training=False)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise HarpError(
                f"channels are verified in float64, where the network fails ({type(error).__name__}: {reason[:200]}); "
                "expected one that takes images of this size and casts nothing to another type"
            ) from error
        if not _differ(self.logits, self.logits[:1].expand_as(self.logits), VARIED):
            raise HarpError("the network's logits do not vary with its images, so no channel could be verified")
        self.modes = (False,) if self._stochastic() else (False, True)

    def sound(self, groups: Sequence[Group]) -> tuple[list[Group], dict[str, str]]:
        """The groups that give equal logits when silenced and when removed, also all together; why others do not."""
        if not groups or self._fault(groups) is None:
            return list(groups), {}
        reasons = {group.name: reason for group in groups if (reason := self._fault([group], thorough=False))}
        left = [group for group in groups if group.name not in reasons]
        if not left or self._fault(left) is None:
            return left, reasons
        # Each alone is sound and all together are not: what fails with those before it has to stay.
        together: list[Group] = []
        for group in left:
            if reason := self._fault([*together, group]):
                reasons[group.name] = f"together with other groups, {reason}"
            else:
                together.append(group)
        return together, reasons

    def _fault(self, groups: Sequence[Group], thorough: bool = True) -> str | None:
        keep = {group.name: self._half(group.size) for group in groups}
        if not thorough:
            return self._compare(groups, keep, (False,), quick=True)
        # The complement too, so that every unit is removed once.
        others = {name: ~mask for name, mask in keep.items()}
        return self._compare(groups, keep, self.modes) or self._compare(groups, others, (False,))

    def _half(self, size: int) -> Tensor:
        # A group has at least two units: one goes and one stays.
        return torch.randperm(size, generator=self.generator) < size // 2

    def _compare(
        self, groups: Sequence[Group], keep: Mapping[str, Tensor], modes: Sequence[bool], quick: bool = False
    ) -> str | None:
        images = self.images[: len(self.images) // IMAGES] if quick else self.images
        silenced = _silenced(self.model, groups, keep)
        expected = [_logits(self.model, images, training, silenced) for training in modes]
        if not _differ(expected[0], self.logits[: len(images)], VARIED):
            return "silencing its channels changes no logit"
        try:
            if quick:
                with _shortened(self.model, groups, keep):
                    found = [_logits(self.model, images, training) for training in modes]
            else:
                smaller = remove(self.model, groups, keep)
                found = [_logits(smaller, images, training) for training in modes]
        except Exception as error:
            text = str(error).strip().partition("\n")[0]
            return f"the smaller network fails ({type(error).__name__}: {text})"
        if any(_differ(one, other, EQUAL) for one, other in zip(expected, found, strict=True)):
            return "removing its channels changes the logits otherwise than silencing them"
        return None

    def _stochastic(self) -> bool:
        """Whether train mode draws random numbers (dropout, stochastic depth), which leaves nothing to compare."""
        with torch.random.fork_rng(devices=[]):
            before = torch.random.get_rng_state()
            _logits(self.model, self.images, training=True)
            return not torch.equal(before, torch.random.get_rng_state())


@contextmanager
def _shortened(model: nn.Module, groups: Sequence[Group], keep: Mapping[str, Tensor]) -> Iterator[None]:
    """The smaller network in place of the model: copying takes longer than running a small network of many modules."""
    before = [(m, dict(vars(m)), dict(m._parameters), dict(m._buffers)) for m in model.modules()]
    try:
        cut(model, groups, keep)
        yield
    finally:
        for module, attributes, parameters, buffers in before:
            vars(module).update(attributes)
            module._parameters.update(parameters)
            module._buffers.update(buffers)


def _logits(model: nn.Module, images: Tensor, training: bool, weights: Mapping[str, Tensor] | None = None) -> Tensor:
    named = dict(model.named_parameters()) if weights else {}
    # Copies of the buffers: batch norm writes its statistics into them.
    lent = {id(buffer): buffer.clone() for buffer in model.buffers()}
    lent |= {id(named[name]): tensor for name, tensor in (weights or {}).items()}
    with torch.no_grad(), _lent(model, lent):
        logits = model.train(training)(images)
    model.eval()
    if not isinstance(logits, Tensor):
        kind = type(logits).__name__
        raise HarpError(f"the network returns an object of type {kind}; expected a tensor of logits")
    return logits


@contextmanager
def _lent(model: nn.Module, tensors: Mapping[int, Tensor]) -> Iterator[None]:
    """Within it the model holds `tensors` in place of those of these identities, under all their names.

    torch.func.functional_call leaves a module that has two names without its parameters.
    """
    before = [(m, dict(m._parameters), dict(m._buffers)) for m in model.modules()]
    try:
        for module, parameters, buffers in before:
            for name, parameter in parameters.items():
                if id(parameter) in tensors:
                    module._parameters[name] = nn.Parameter(tensors[id(parameter)], requires_grad=False)
            for name, buffer in buffers.items():
                module._buffers[name] = tensors.get(id(buffer), buffer)
        yield
    finally:
        for module, parameters, buffers in before:
            module._parameters.update(parameters)
            module._buffers.update(buffers)


def _silenced(model: nn.Module, groups: Sequence[Group], keep: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weights = {part.name: model.get_parameter(part.name).detach().clone() for g in groups for part in g.consumers}
    for group in groups:
        for part in group.consumers:
            gone = (~part.mask(keep[group.name])).nonzero().flatten()
            weights[part.name].index_fill_(part.axis, gone, 0)
    return weights


def _differ(expected: Tensor, found: Tensor, tolerance: float) -> bool:
    if expected.shape != found.shape:
        return True
    # Not "larger than": NaN differs from everything.
    return not bool((expected - found).abs().max() <= tolerance * expected.abs().max())
