"""A run or an arena that another process makes, as its files tell of it: read, never locked, never written."""

from harp.watching.arena import ArenaState, is_arena, watched_arena
from harp.watching.run import RunState, StageState, watched_run
from harp.watching.view import lines, picture

__all__ = ["ArenaState", "RunState", "StageState", "is_arena", "lines", "picture", "watched_arena", "watched_run"]
