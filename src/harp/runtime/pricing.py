"""What one image costs in the engine, as its planner reckons: cycles, by the weights that they are spent on."""

from harp.errors import HarpError
from harp.graph import ArrayGraph, Node, by_nobody, left_to_torch
from harp.runtime.compiling import taps_of
from harp.runtime.lowering import Lowering
from harp.runtime.native import WIDTHS, native
from harp.runtime.segments import cut, fused
from harp.runtime.single import Single
from harp.runtime.tiling import Machine

# The planner only ranks ways through one layer. Against a clock (docs/results, Latency) a call has these cycles beside
# its layers, and kernels that take several filters at a time, where layers are dense, are slower by this factor.
CALL, TOGETHER = 90_000.0, 1.15


def cycles(graph: ArrayGraph, variant: str | None = None) -> dict[str, float]:
    """Cycles of a processor for one image on one thread, by name of the tensor of weights; "" stands for all else.

    By the build of the engine that suits this processor, or `variant`. Raises `HarpError` for a network with a layer
    that PyTorch would run, naming it, and where the engine is not built.
    """
    build, lowering = native(variant), Lowering(graph, by_nobody, alone=True)
    machine, spent = Machine(build.lanes, build.registers), {"": CALL}
    for item in cut(graph, lowering):
        if isinstance(item, Node):
            raise HarpError(left_to_torch(item))
        layers = fused(item)
        taps = {layer.name: taps_of(layer, lowering.constants) for layer in layers if layer.weight}
        single = Single(layers, taps, {name: item.specs[name].shape for name in item.inputs}, machine)
        for layer in layers:
            name = layer.weight if layer.weight in graph.tensors else ""
            way = single.ways.get(layer.name)
            slower = TOGETHER if way is not None and way.tiling.width >= WIDTHS["four"] else 1.0
            spent[name] = spent.get(name, 0.0) + slower * single.costs[layer.name]
    return spent
