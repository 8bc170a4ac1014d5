"""Who runs a graph."""

from harp.export.compare import Answer
from harp.graph import Graph, Interpreter


def engine(graph: Graph, threads: int) -> Answer:
    """The graph as a function from images to logits, float32 on the CPU; everything that runs a package asks here."""
    return Interpreter(graph)
