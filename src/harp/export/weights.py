"""Which tensors of a captured graph are weights, and what has become of them after rewriting."""

from collections.abc import Mapping

from torch import nn

from harp.graph import Graph, Node, Ref
from harp.sparsity import find_weights

LAYERS = ("conv1d", "conv2d", "conv3d", "linear", "conv_transpose1d", "conv_transpose2d.input")


def layer_weights(graph: Graph) -> list[str]:
    """The weights of convolutions and linear layers, each once."""
    names = [node.args[1].name for node in graph.nodes if node.op in LAYERS and isinstance(node.args[1], Ref)]
    return [name for name in dict.fromkeys(names) if name in graph.tensors]


def weight_sizes(source: nn.Module | Graph, graph: Graph) -> dict[str, tuple[int, int]]:
    """Of each weight of the network, by name, its entries and how many are not zero.

    A module tells what its weights are (`find_weights`); of a bare graph they are those of its layers.
    """
    sites = find_weights(source) if isinstance(source, nn.Module) else ()
    if sites:
        return {site.name: (site.size, int(site.param.count_nonzero())) for site in sites}
    tensors = {name: graph.tensor(name) for name in layer_weights(graph)}
    return {name: (tensor.numel(), int(tensor.count_nonzero())) for name, tensor in tensors.items()}


class Origins:
    """Where the tensors of a rewritten graph come from: `graph` is the one before, `moved` are names given later."""

    def __init__(self, graph: Graph, moved: Mapping[str, str]):
        self.graph, self.moved = graph, moved
        self.nodes = {node.name: node for node in graph.nodes}
        self.known: dict[str, frozenset[str]] = {}

    def of(self, name: str) -> frozenset[str]:
        """The names of the tensors of the graph before that a tensor was made from; none where nothing is known."""
        return self._of(self.moved.get(name, name))

    def _of(self, name: str) -> frozenset[str]:
        if name in self.graph.tensors:
            return frozenset([name])
        if name not in self.known:
            made = frozenset[str]().union(*(self._of(read) for read in self._reads(name)))
            self.known[name] = made
        return self.known[name]

    def _reads(self, name: str) -> list[str]:
        # What is computed of tensors alone is called after its node, a weight that took up one of several batch norms
        # after its layer (`fold`).
        node: Node | None = self.nodes.get(name)
        if node is not None:
            return list(node.refs())
        layer = self.nodes.get(name.removesuffix(".weight"))
        return [layer.args[1].name] if layer is not None and isinstance(layer.args[1], Ref) else []
