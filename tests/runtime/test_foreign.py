"""Networks nobody here wrote, pruned to a tenth of their weights: the engine runs all of these, and rightly."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from harp.export import fold, shrink
from harp.graph import Graph, to_arrays
from harp.runtime import Engine, compile
from harp.runtime.segments import density
from tests.foreign import FOREIGN, FURTHER, images, pruned
from tests.pace import quick
from tests.runtime.graphs import BUILT

QUICK = ("convnext", "EfficientNet", "poolformer", "vit")
# Of a convolutional network not more than the stem or the head stands apart; what stands between the segments of a
# transformer is its attention, and of the others their layer or group norms.
SEGMENTS = {"resnet": 1, "regnet": 2, "EfficientNet": 2}


@dataclass(frozen=True)
class Case:
    """A pruned network, as a module and as the graph that a package would hold."""

    name: str
    model: nn.Module
    graph: Graph

    def logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As PyTorch gives them in float32 and in float64."""
        with torch.no_grad():
            return self.model(x), copy.deepcopy(self.model).double()(x.double())

    def weights(self) -> set[str]:
        """Names of what convolutions and linear layers multiply with."""
        return {node.args[1].name for node in self.graph.nodes if node.op in ("conv2d", "linear")}


@pytest.fixture(scope="module", params=quick(QUICK, [*FOREIGN, *FURTHER]))
def case(request: pytest.FixtureRequest) -> Case:
    model, graph = pruned(request.param)
    return Case(request.param, model, shrink(fold(graph)).graph)


@pytest.mark.parametrize("count", [1, 19])
@pytest.mark.parametrize("variant", quick(["avx2", "torch"], [*BUILT, "torch"]))
def test_it_gives_what_the_model_gives(case: Case, variant: str, count: int):
    x = images(count)
    torchs, truth = case.logits(x)
    scale = truth.abs().max()
    assert count == 1 or truth.std(0).any()
    off = ((compile(case.graph, variant=variant)(x) - truth).abs().max() / scale).item()
    assert off <= max(1e-5, (3 * (torchs - truth).abs().max() / scale).item())


@pytest.mark.skipif(not BUILT, reason="the sparse engine is not built here")
def test_every_weighted_layer_runs_in_the_engine(case: Case):
    engine = compile(case.graph)
    assert isinstance(engine, Engine)
    layers = [layer for segment in engine.segments for layer in segment.compiled.layers]
    assert case.weights() <= {layer.weight for layer in layers}
    assert len(engine.segments) <= SEGMENTS.get(case.name, len(case.weights()))


def test_the_engine_gets_what_pruning_left(case: Case):
    """Bit's weights are standardised before they are used, after which no zero is zero any more."""
    sizes = {name: torch.Size(case.graph.tensors[name].shape).numel() for name in case.weights()}
    arrays = to_arrays(case.graph)
    left = sum(density(arrays.tensors[name]) * size for name, size in sizes.items())
    assert (left <= 0.15 * sum(sizes.values())) == (case.name != "Bit")
