"""Networks as operator graphs, which need no Python class to be kept, rewritten or run."""

from harp.graph.capture import BATCH, capture, exported
from harp.graph.check import check
from harp.graph.interpret import Interpreter, run
from harp.graph.ir import Graph, Node, Ref, Sparse, Value
from harp.graph.shapes import dtype, shapes

__all__ = [
    "BATCH",
    "Graph",
    "Interpreter",
    "Node",
    "Ref",
    "Sparse",
    "Value",
    "capture",
    "check",
    "dtype",
    "exported",
    "run",
    "shapes",
]
