"""What a rule answers about its node."""

from abc import ABC, abstractmethod

from harp.export.channels.state import State
from harp.graph import Node, Ref, Value


class Rule(ABC):
    """One node's dealings with channels. `forward` is called in the graph's order, `backward` in the reverse one."""

    def __init__(self, node: Node, state: State):
        self.node = node
        self.sources = [name for name in dict.fromkeys(node.refs()) if name in state.channels]

    @classmethod
    @abstractmethod
    def applies(cls, node: Node, state: State) -> bool:
        """Whether the node is one of this kind."""

    @abstractmethod
    def forward(self, state: State) -> None:
        """Tells the channels of the node's value, which of them are constant, and which can only go together."""

    @abstractmethod
    def backward(self, state: State) -> None:
        """Tells which channels the node reads, given those of its own value that are read."""

    def rewritten(self, state: State) -> Node | None:
        """The node among the channels that stay; None where another value takes its place (`State.instead`)."""
        return self.node


def source(node: Node) -> str:
    """The name of the node's first argument, empty where that is none."""
    first: Value = node.args[0] if node.args else None
    return first.name if isinstance(first, Ref) else ""
