"""Weights from a file into a model, or one sentence that says why they do not fit."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from harp.errors import HarpError


def load_weights(model: nn.Module, state: Mapping[str, Any], origin: str) -> None:
    """`model` holds the weights of `state`; raises `HarpError` naming `origin` where they are not this model's.

    Every name and shape must match, and every number must be finite; the model is untouched where they do not.
    """
    own = model.state_dict()
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
    broken = [name for name, value in state.items() if not torch.isfinite(value.float()).all()]
    if broken:
        raise HarpError(f"{origin}: {broken[0]} holds NaN or infinite numbers")
    model.load_state_dict(dict(state))
