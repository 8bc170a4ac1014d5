"""A PyTorch module as a graph, by `torch.export`: what it computes in eval mode, without its Python."""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from harp.ambient import precise
from harp.errors import HarpError
from harp.graph.ir import Graph
from harp.graph.translate import translate
from harp.modes import evaluating


@precise()
def capture(model: nn.Module, example: Tensor) -> Graph:
    """The graph of `model` in eval mode, from images [n, *shape] to logits [n, classes].

    `example` [m, *shape] gives shape, dtype and device; its values do not matter. Tensors are copies on the CPU, under
    their names in the `state_dict`, tied ones under the first of their names. The number of images is left open; a
    network whose computation depends on it is captured for one at a time (`Graph.batch` is 1). The model is left as it
    is. Operators are PyTorch's own, so the graph gives the model's logits bit for bit (weights laid out contiguously).

    Raises `HarpError` for a network that decides by the values of its images what to compute, that changes its buffers
    or mixes the images of a batch in eval mode, that returns anything but one tensor of logits, or that uses an
    operator outside `harp.graph.operators`.
    """
    if example.ndim < 2 or len(example) == 0:
        raise HarpError(f"an example of shape {list(example.shape)}; expected at least one image [n, ...]")
    twin = _twin(model)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            return _captured(twin, example, None)
        except Exception:
            return _final(twin, example)


def _twin(model: nn.Module) -> nn.Module:
    with evaluating(model):
        pass  # by way of train(), which drops what a module has cached of its weights; with a graph none can be copied
    try:
        return copy.deepcopy(model).eval()
    except Exception as error:
        raise HarpError(f"the network cannot be copied to be captured: {_line(error)}") from error


def _final(model: nn.Module, example: Tensor) -> Graph:
    try:
        return _captured(model, example, 1)
    except HarpError:
        raise
    except Exception as error:
        raise HarpError(
            f"the network cannot be captured as a graph: {_line(error)}; expected one whose steps do not depend on the "
            "values of its images and whose forward takes one tensor"
        ) from error


def _captured(model: nn.Module, example: Tensor, batch: int | None) -> Graph:
    # Two images where the number is left open: torch.export takes a size of 1 for a constant.
    x = example[:1].detach() if batch else torch.cat([example[:1].detach()] * 2)
    sizes: Any = None if batch else ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(model, (x,), dynamic_shapes=sizes, strict=False).run_decompositions({})
    return translate(program, tuple(example.shape[1:]), batch)


def _line(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text[:200]}"
