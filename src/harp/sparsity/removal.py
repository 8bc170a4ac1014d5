"""Channels physically removed: a smaller network of the same class, and one made ready to load a smaller file."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from harp.ambient import pinned
from harp.copies import copied
from harp.errors import HarpError, choices
from harp.sparsity.groups import Group
from harp.wrappers import unwrapped


@pinned()
def remove(model: nn.Module, groups: Iterable[Group], keep: Mapping[str, Tensor]) -> nn.Module:
    """A smaller copy of `model` without the units whose mask is false; `model` itself stays as it is.

    `keep` maps names of groups to bool masks [size]; a group without a mask stays whole. Class, modes, device, dtype,
    names of the `state_dict` and tied weights are kept; gradients are not. Raises `HarpError` for the name of no
    group, and for a mask that is not bool, of another length, or keeps nothing.
    """
    smaller = copied(unwrapped(model))
    cut(smaller, groups, keep)
    return smaller


@pinned()
def cut(model: nn.Module, groups: Iterable[Group], keep: Mapping[str, Tensor]) -> None:
    """`model`, in place, without the units whose mask is false; otherwise as `remove`."""
    found = {group.name: group for group in groups}
    for name, mask in keep.items():
        _check(name, mask, found)
    stays: dict[tuple[str, int], Tensor] = {}
    for name, mask in keep.items():
        for part in found[name].members:
            bits, key = part.mask(mask.cpu()), (part.name, part.axis)
            stays[key] = stays[key] & bits if key in stays else bits
    tensors = dict(_named(model))
    shorter: dict[str, Tensor] = {}
    for (name, axis), bits in stays.items():
        tensor = shorter.get(name, tensors[name].detach())
        shorter[name] = tensor.index_select(axis, bits.nonzero().flatten().to(tensor.device))
    _replace(model, shorter)


@pinned()
def resize(model: nn.Module, shapes: Mapping[str, torch.Size]) -> None:
    """`model`, in place, with tensors of the given shapes, ready to load the file of a network made by `remove`.

    `shapes` maps each name of the `state_dict` to the shape in the file. A tensor that changes has arbitrary content
    until the file is loaded; the attributes of its module (channels, features, groups) follow. Raises `HarpError`
    where a name is missing or unknown, or a shape is not that of this network with fewer channels.
    """
    tensors = dict(_named(model, every=True))
    names = list(model.state_dict(keep_vars=True))
    for name in set(shapes) - set(names):
        raise HarpError(f"the file's tensor {name} is not in the network; {choices(name, names)}")
    new: dict[str, Tensor] = {}
    for name in names:
        if name not in shapes:
            raise HarpError(f"the file lacks the network's tensor {name}")
        tensor = tensors.get(name)
        if tensor is None or tensor.shape == shapes[name]:
            continue
        old, wanted = list(tensor.shape), list(shapes[name])
        if len(old) != len(wanted) or any(not 1 <= b <= a for a, b in zip(old, wanted, strict=True)):
            raise HarpError(f"{name} has shape {wanted} in the file and {old} in the network; expected fewer channels")
        new[name] = tensor.new_empty(shapes[name])
    _check_ties(tensors, shapes, new)
    _replace(model, new)


def _check(name: str, mask: Tensor, groups: Mapping[str, Group]) -> None:
    if name not in groups:
        raise HarpError(f"no group of channels {name!r}; {choices(name, groups)}")
    size = groups[name].size
    if mask.dtype is not torch.bool or mask.shape != (size,):
        raise HarpError(f"the mask of {name}: expected bool [{size}], got {mask.dtype} {list(mask.shape)}")
    if not mask.any():
        raise HarpError(f"the mask of {name} keeps no channel: the network would be cut through")


def _check_ties(tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], new: Mapping[str, Tensor]) -> None:
    first: dict[int, str] = {}
    for name, tensor in tensors.items():
        other = first.setdefault(id(tensor), name)
        if name in shapes and shapes[name] != shapes[other]:
            raise HarpError(f"{name} and {other} are one tensor, of two shapes in the file")
    for name in new:
        if not tensors[name].is_floating_point():
            raise HarpError(f"{name} holds {tensors[name].dtype}, which no channel has, and changes its shape")


def _named(model: nn.Module, every: bool = False) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=not every)
    yield from model.named_buffers(remove_duplicate=not every)


def _replace(model: nn.Module, new: Mapping[str, Tensor]) -> None:
    tensors = dict(_named(model, every=True))
    by_identity = {id(tensors[name]): tensor for name, tensor in new.items()}
    made: dict[int, nn.Parameter] = {}
    for path, module in model.named_modules():
        shapes = {name: tuple(t.shape) for name, t in module._parameters.items() if t is not None}
        changed = False
        for name, old in list(module._parameters.items()):
            if old is not None and (content := by_identity.get(id(old))) is not None:
                module._parameters[name] = made.setdefault(id(old), nn.Parameter(content, old.requires_grad))
                changed = True
        for name, buffer in list(module._buffers.items()):
            if buffer is not None and id(buffer) in by_identity:
                module._buffers[name] = by_identity[id(buffer)]
                changed = True
        if changed:
            _follow(path, module, shapes)


def _follow(path: str, module: nn.Module, old: Mapping[str, tuple[int, ...]]) -> None:
    """The attributes of a module after its tensors; `HarpError` where they fit no smaller module of its kind."""
    kind = type(module).__name__
    if isinstance(module, _ConvNd):
        fits = _follow_convolution(module, old["weight"])
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
        fits = module.bias is None or len(module.bias) == module.out_features
    elif isinstance(module, _NormBase):
        lengths = {len(t) for t in (*module.parameters(False), *module.buffers(False)) if t.dim() == 1}
        module.num_features = min(lengths)
        fits = len(lengths) == 1
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
        fits = True
    else:
        # A bare parameter, such as a scale per channel, has no attribute beside it; a module of torch's own has.
        fits = not type(module).__module__.startswith("torch.")
    if not fits:
        shapes = ", ".join(f"{name} {list(t.shape)}" for name, t in module.named_parameters(recurse=False))
        raise HarpError(f"{path} ({kind}) cannot have the shapes {shapes}: no {kind} with fewer channels has them")


def _follow_convolution(module: _ConvNd, old: tuple[int, ...]) -> bool:
    first, second, *kernel = module.weight.shape
    before = module.groups
    if before == module.in_channels > 1:
        per_group = module.out_channels // before
        module.groups = first if module.transposed else first // per_group
    groups = module.groups
    inward, outward = (first, groups * second) if module.transposed else (groups * second, first)
    fits = tuple(kernel) == old[2:] and groups > 0 and inward % groups == 0 == outward % groups
    if fits and groups != before:
        fits = inward == groups and outward == groups * per_group
    module.in_channels, module.out_channels = inward, outward
    return fits and (module.bias is None or len(module.bias) == outward)
