"""Networks as operator graphs, which need no Python class to be kept, rewritten or run."""

from harp.graph.ir import Graph, Node, Ref, Sparse, Value

__all__ = ["Graph", "Node", "Ref", "Sparse", "Value"]
