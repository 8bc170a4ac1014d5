"""What each operator does to channels: which are constant, which are read, which can go."""

from harp.export.channels.filters import Depthwise, Filters
from harp.export.channels.passing import Barrier, Channelwise, Concatenation, Pool, Reshape, Size
from harp.export.channels.rule import Rule
from harp.export.channels.state import State
from harp.graph import Node

_KINDS: tuple[type[Rule], ...] = (Filters, Depthwise, Channelwise, Pool, Concatenation, Reshape, Size)


def rule(node: Node, state: State) -> Rule:
    """What the node does to channels; an operator of which that is not known leaves every channel it reads in place."""
    return next((kind(node, state) for kind in _KINDS if kind.applies(node, state)), Barrier(node, state))


__all__ = ["Filters", "Rule", "State", "rule"]
