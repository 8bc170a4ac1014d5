"""Weights that are computed from others in every forward pass, written down as ordinary parameters."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm, SpectralNormLoadStateDictPreHook, SpectralNormStateDictHook
from torch.nn.utils.weight_norm import WeightNorm

from harp.copies import copied
from harp.modes import evaluating

# What PyTorch's forms before torch.nn.utils.parametrize leave beside a module's own tensors.
_PARTS = {WeightNorm: ("_g", "_v"), SpectralNorm: ("_orig", "_u", "_v"), BasePruningMethod: ("_orig", "_mask")}


def plain(model: nn.Module) -> nn.Module:
    """A copy of `model` in which every weight is a parameter of its own; `model` itself where that is so already.

    What is folded: all of torch.nn.utils.parametrize and torch.nn.utils.parametrizations (weight norm, spectral norm,
    orthogonal), the older weight_norm and spectral_norm, and torch.nn.utils.prune. Logits in eval mode are the same;
    training goes on without the constraint. A folded weight is frozen where all it was computed from is.
    """
    if not any(parametrize.is_parametrized(module) or any(_hooks(module)) for module in model.modules()):
        return model
    model = copied(model)
    with evaluating(model), torch.no_grad():
        for module in list(model.modules()):
            if parametrize.is_parametrized(module):
                _fold_new(module)
            for hooks, key, hook in list(_hooks(module)):
                _fold_old(module, hook)
                del hooks[key]
    return model


def _hooks(module: nn.Module) -> Iterator[tuple[Any, int, Any]]:
    """The hooks of the older forms: the dict, the key, the hook.

    `remove_spectral_norm` leaves one behind, without which the network would not load its own state.
    """
    kinds = (*_PARTS, SpectralNormLoadStateDictPreHook, SpectralNormStateDictHook)
    for hooks in (module._forward_pre_hooks, module._state_dict_hooks, module._load_state_dict_pre_hooks):
        for key, wrapped in list(hooks.items()):
            hook = getattr(wrapped, "hook", wrapped)
            if isinstance(hook, kinds):
                yield hooks, key, hook


def _fold_new(module: nn.Module) -> None:
    # Not remove_parametrizations: it takes the property from the class, which the network copied from shares.
    lists = dict(module.parametrizations.items())  # type: ignore[union-attr, operator]
    values = {name: getattr(module, name) for name in lists}
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module._modules["parametrizations"]
    for name, value in values.items():
        originals = [part for own, part in lists[name].named_parameters() if own.startswith("original")]
        _register(module, name, value, originals)


def _fold_old(module: nn.Module, hook: Any) -> None:
    found = next((parts for kind, parts in _PARTS.items() if isinstance(hook, kind)), None)
    if found is None:
        return
    if isinstance(hook, BasePruningMethod):
        name, value = hook._tensor_name, hook.apply_mask(module)  # type: ignore[no-untyped-call]
    elif isinstance(hook, SpectralNorm):
        name, value = hook.name, hook.compute_weight(module, do_power_iteration=False)
    else:
        name, value = hook.name, hook.compute_weight(module)
    parts = [module._parameters.pop(f"{name}{part}", None) for part in found]
    for part in found:
        module._buffers.pop(f"{name}{part}", None)
    vars(module).pop(name, None)
    _register(module, name, value, [part for part in parts if part is not None])


def _register(module: nn.Module, name: str, value: Tensor, originals: list[nn.Parameter]) -> None:
    value = value.detach().clone()
    if originals:
        module.register_parameter(name, nn.Parameter(value, any(part.requires_grad for part in originals)))
    else:
        module.register_buffer(name, value)
