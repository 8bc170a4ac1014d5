"""Methods against one another: one dense network a seed, one budget, one training, one judge.

`harp.arena` is this room and the function of that name: whichever of them was imported first, it can be called.
"""

import sys
from types import ModuleType
from typing import Any

from harp.arena.arena import arena
from harp.arena.grid import Grid, read_grid
from harp.arena.launching import Launcher, Processes
from harp.arena.schema import Results
from harp.arena.slurm import Submitted


class _Room(ModuleType):
    def __call__(self, *args: Any, **named: Any) -> Results:
        return arena(*args, **named)


sys.modules[__name__].__class__ = _Room

__all__ = ["Grid", "Launcher", "Processes", "Results", "Submitted", "arena", "read_grid"]
