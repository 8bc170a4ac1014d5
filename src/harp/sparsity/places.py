"""Where in a network a parameter stands, held weakly, so that a copy can tell whether it is still part of one."""

from __future__ import annotations

import copy
import weakref
from typing import Any

from torch import nn


class Place:
    """A module of a network and the parameter's own name in it.

    A copy and a pickle hold the module's copy. Where the network itself is not copied along nothing else holds that
    module, so the copied place is empty at once, and whoever works on it can say so instead of training nobody's
    weights.
    """

    def __init__(self, module: nn.Module, own: str):
        self._module, self.own = weakref.ref(module), own

    @property
    def module(self) -> nn.Module | None:
        """The module of the network, None where that is gone."""
        return self._module()

    def holds(self, param: nn.Parameter) -> bool:
        """Whether the network still has this very parameter here: not an equal one, nor one computed from it."""
        module = self._module()
        return module is not None and module._parameters.get(self.own) is param

    def __deepcopy__(self, memo: dict[int, Any]) -> Place:
        return Place(copy.deepcopy(self._held(), memo), self.own)

    def __reduce__(self) -> tuple[type[Place], tuple[nn.Module, str]]:
        return Place, (self._held(), self.own)

    def _held(self) -> nn.Module:
        module = self._module()
        # An empty module in place of one that is gone: nobody holds it either.
        return nn.Module() if module is None else module


def place_of(model: nn.Module, name: str) -> Place:
    """The place of the parameter that `model` has under `name`."""
    path, _, own = name.rpartition(".")
    return Place(model.get_submodule(path), own)
