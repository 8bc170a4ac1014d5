"""The values of weights in fewer bits: fp16, bf16, or int8 with one scale for each output channel."""

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

from harp.errors import HarpError, choices
from harp.graph import Graph, Ref, Sparse
from harp.package.codec import STORED

PRECISIONS: Mapping[str, torch.dtype] = {name: getattr(torch, kind) for name, kind in STORED.items()}

# Of each operator that multiplies by a weight (its second argument), the weight's axis of outputs; any overload.
_KERNELS = {"linear": 0} | {f"conv{n}d": 0 for n in (1, 2, 3)} | {f"conv_transpose{n}d": 1 for n in (1, 2, 3)}


def precision(name: str) -> torch.dtype:
    """The dtype weights are stored in; raises `HarpError` for a name that is none of fp32, fp16, bf16 and int8."""
    if name not in PRECISIONS:
        raise HarpError(f"values: no precision {name!r}; {choices(str(name), PRECISIONS)}")
    return PRECISIONS[name]


def output_axes(graph: Graph) -> dict[str, int]:
    """Of each tensor that is read only as the weight of convolutions and linear layers, the axis of its outputs."""
    axes: dict[str, int] = {}
    others = {graph.output}
    for node in graph.nodes:
        axis = _KERNELS.get(node.op.split(".")[0])
        weight = node.args[1].name if axis is not None and isinstance(node.args[1], Ref) else None
        if axis is not None and weight is not None:
            axes.setdefault(weight, axis)
        others.update(name for name in node.refs() if name != weight or node.refs().count(name) > 1)
    return {name: axis for name, axis in axes.items() if name in graph.tensors and name not in others}


def narrowed(name: str, weight: Sparse, dtype: torch.dtype, axis: int) -> tuple[Sparse, Tensor | None]:
    """The weight in `dtype` and, for int8, its scales [outputs] in float32; nearest value, ties to even.

    int8: q = round(w / s) with s = max |w| / 127 of the output channel, so that q s is within s / 2 of w. Raises
    `HarpError` for a weight that is too large for `dtype`, and for int8 where one is not finite.
    """
    if dtype != torch.int8:
        values = weight.values.to(dtype)
        if (beyond := values.isinf() & weight.values.isfinite()).any():
            worst, limit = float(weight.values[beyond].abs().max()), torch.finfo(dtype).max
            raise HarpError(f"{name}: {worst:g} is beyond the {limit:g} of {dtype}; choose another precision of values")
        return _nonzero(weight, values), None
    if not weight.values.isfinite().all():
        raise HarpError(f"{name}: int8 needs finite weights, and this one has others; choose another precision")
    channel = _channels(weight, axis)
    most = torch.zeros(weight.shape[axis]).scatter_reduce(0, channel, weight.values.abs(), "amax")
    scales = most / 127
    # Rounded down, or to zero among the denormals, a scale would not reach the largest weight.
    scales = torch.where(scales.double() * 127 < most, scales.nextafter(torch.tensor(torch.inf)), scales)
    return _nonzero(weight, (weight.values.double() / scales[channel]).round().to(torch.int8)), scales


def _channels(weight: Sparse, axis: int) -> Tensor:
    return weight.index // prod(weight.shape[axis + 1 :]) % weight.shape[axis]


def _nonzero(weight: Sparse, values: Tensor) -> Sparse:
    kept = values != 0
    return Sparse(weight.shape, weight.index[kept], values[kept])
