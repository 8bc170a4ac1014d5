"""Weights from a file into a model, or one sentence that says why they do not fit."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from harp.errors import HarpError

# What wrappers put before the names of a network: `DataParallel`, `torch.compile`, modules that hold one as `model`.
_WRAPPED = re.compile(r"^(module\.|_orig_mod\.|model\.)+")
_AVERAGED = "n_averaged"  # what `AveragedModel` counts beside the network


def as_named(state: Mapping[str, Any], own: Collection[str]) -> Mapping[str, Any]:
    """`state` under the names `own`, where they differ in nothing but what wrappers put before them; else as it is."""
    ours = {_WRAPPED.sub("", name): name for name in own}
    theirs = {_WRAPPED.sub("", name): name for name in state if name != _AVERAGED or name in own}
    told = len(ours) == len(own) and len(theirs) == len(state) - (_AVERAGED in state and _AVERAGED not in own)
    if set(state) == set(own) or not told or ours.keys() != theirs.keys():
        return state
    return {name: state[theirs[plain]] for plain, name in ours.items()}


def load_weights(model: nn.Module, state: Mapping[str, Any], origin: str) -> None:
    """`model` holds the weights of `state`; raises `HarpError` naming `origin` where they are not this model's.

    Every name (but for what `DataParallel`, `torch.compile` and their like put before all of them) and every shape must
    match, every number must be finite and one that the model's dtype can be: floating-point numbers may be rounded to
    its precision, all else must be the same number there. The model is untouched where they do not.
    """
    own = model.state_dict()
    state = as_named(state, own)
    strange = sorted(set(state) - set(own)) + sorted(set(own) - set(state))
    wrong = [name for name in own if name in state and tuple(state[name].shape) != tuple(own[name].shape)]
    if strange or wrong:
        name = (wrong + strange)[0]
        here = tuple(own[name].shape) if name in own else "absent"
        there = tuple(state[name].shape) if name in state else "absent"
        raise HarpError(
            f"{origin} holds the weights of another model: {name} is {there} in the file and {here} in "
            f"{type(model).__name__} ({len(strange) + len(wrong)} of {len(own)} entries differ)"
        )
    for name, value in state.items():
        if not _is_one(value, own[name].dtype):
            there, here = (str(dtype).removeprefix("torch.") for dtype in (value.dtype, own[name].dtype))
            raise HarpError(f"{origin}: {name} holds {there} numbers, which are no {here} ones; expected {here} there")
    broken = [name for name, value in state.items() if not torch.isfinite(value.float()).all()]
    if broken:
        raise HarpError(f"{origin}: {broken[0]} holds NaN or infinite numbers")
    model.load_state_dict(dict(state))


def _is_one(value: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether numbers of `value` may stand for numbers of `dtype`: weights of integers, say, are somebody's codes."""
    if value.dtype == dtype or (value.is_floating_point() and dtype.is_floating_point):
        return True
    if dtype.is_floating_point or dtype.is_complex or value.is_complex() or torch.bool in (value.dtype, dtype):
        return False
    return bool(torch.isfinite(value).all()) and torch.equal(value.to(dtype).to(value.dtype), value)
