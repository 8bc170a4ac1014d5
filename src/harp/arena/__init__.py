"""Methods against one another: one dense network a seed, one budget, one training, one judge."""

from harp.arena.arena import arena
from harp.arena.grid import Grid, read_grid
from harp.arena.launching import Launcher, Processes
from harp.arena.schema import Results
from harp.arena.slurm import Submitted

__all__ = ["Grid", "Launcher", "Processes", "Results", "Submitted", "arena", "read_grid"]
