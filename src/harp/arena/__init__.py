"""Methods against one another: one dense network a seed, one budget, one training, one judge."""

from harp.arena.arena import arena
from harp.arena.grid import Grid, read_grid
from harp.arena.schema import Results

__all__ = ["Grid", "Results", "arena", "read_grid"]
