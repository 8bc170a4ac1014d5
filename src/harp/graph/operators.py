"""The operators a graph may use: functional, deterministic, none that reads files or runs code.

What arguments an operator takes is what PyTorch's own schema says: schemas.json holds it, so that a graph is checked
without PyTorch, and alike beside every version of it. Integers (sizes) have operators of their own:
`int_add` is `aten::add.int`, and so on; `getitem` picks one of several tensors an operator returns.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harp.errors import HarpError, choices
from harp.graph.ir import Ref, Value

_NAMES = """
conv1d conv2d conv2d.padding conv3d conv_transpose1d conv_transpose2d.input conv_transpose3d.input linear matmul mm
bmm addmm baddbmm batch_norm instance_norm layer_norm group_norm native_layer_norm native_group_norm rms_norm
linalg_vector_norm scaled_dot_product_attention softmax.int log_softmax.int

relu relu6 hardtanh leaky_relu elu selu celu silu gelu sigmoid hardsigmoid hardswish tanh softplus prelu mish
hardshrink softshrink threshold log_sigmoid glu

add.Tensor add.Scalar sub.Tensor sub.Scalar rsub.Tensor rsub.Scalar mul.Tensor mul.Scalar div.Tensor div.Scalar
div.Tensor_mode div.Scalar_mode pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar remainder.Scalar remainder.Tensor
floor_divide floor_divide.Scalar fmod.Scalar addcmul addcdiv lerp.Scalar lerp.Tensor maximum minimum
neg abs sign square sqrt rsqrt reciprocal exp expm1 log log2 log10 log1p sin cos tan atan atan2 erf floor ceil round
trunc frac clamp clamp.Tensor clamp_min clamp_max nan_to_num
eq.Scalar eq.Tensor ne.Scalar ne.Tensor lt.Scalar lt.Tensor le.Scalar le.Tensor gt.Scalar gt.Tensor ge.Scalar ge.Tensor
logical_and logical_or logical_not logical_xor bitwise_and.Tensor bitwise_or.Tensor bitwise_not isnan isfinite
where.self where.ScalarOther where.ScalarSelf where.Scalar masked_fill.Scalar masked_fill.Tensor tril triu

max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d max_pool2d_with_indices
mean mean.dim sum sum.dim_IntList amax amin max.dim min.dim argmax argmin var.correction var_mean.correction
std.correction prod.dim_int cumsum logsumexp all.dim any.dim topk sort

view reshape flatten.using_ints unflatten.int permute transpose.int t unsqueeze squeeze squeeze.dim squeeze.dims expand
expand_as repeat tile repeat_interleave.self_int movedim.int movedim.intlist swapaxes adjoint cat stack slice.Tensor
select.int narrow roll flip pad constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d
index_select index.Tensor gather embedding take_along_dim split.Tensor split_with_sizes chunk unbind.int
tensor_split.sections select_scatter slice_scatter scatter.src scatter.value index_put index_add unfold im2col col2im
pixel_shuffle pixel_unshuffle channel_shuffle clone to.dtype type_as fill.Scalar copy diagonal
meshgrid.indexing einsum

arange arange.start arange.start_step linspace full zeros ones scalar_tensor eye full_like zeros_like ones_like
new_full new_zeros new_ones
upsample_nearest1d.vec upsample_nearest2d.vec upsample_bilinear2d.vec upsample_bicubic2d.vec
_upsample_bilinear2d_aa.vec _upsample_bicubic2d_aa.vec upsample_nearest2d upsample_bilinear2d upsample_bicubic2d
_upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler sym_size.int
"""
INTEGERS = {
    "int_add": "add.int",
    "int_sub": "sub.int",
    "int_mul": "mul.int",
    "int_floordiv": "floordiv.int",
    "int_mod": "remainder.int",
    "int_neg": "neg.int",
}
OPERATORS = frozenset(_NAMES.split()) | INTEGERS.keys() | {"getitem"}

DTYPES = frozenset(["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"])
LAYOUTS = frozenset({"strided"})
FORMATS = frozenset(["contiguous_format", "preserve_format", "channels_last", "channels_last_3d"])
# What would make an operator random or let one image of a batch change another's logits.
FIXED = {("batch_norm", "training"): False, ("scaled_dot_product_attention", "dropout_p"): 0.0}


@dataclass(frozen=True)
class Parameter:
    """An argument of an operator: `kind` is the type its schema names, such as `Tensor` or `Optional[List[int]]`."""

    name: str
    kind: str
    keyword: bool
    default: Value = None
    required: bool = False


@dataclass(frozen=True)
class Operator:
    """It takes `parameters` and returns `kind`: `Tensor`, `int`, or `Tensors` (several, for `getitem`)."""

    name: str
    parameters: tuple[Parameter, ...]
    kind: str = "Tensor"

    @property
    def factory(self) -> bool:
        """Whether it makes a tensor out of none, so that it has to be told the device."""
        kinds = {parameter.kind for parameter in self.parameters}
        return "Optional[Device]" in kinds and "Tensor" not in kinds


@cache
def operator(name: str) -> Operator:
    """The operator of that name in a graph; raises `HarpError` where it is none of `OPERATORS`."""
    if name not in OPERATORS:
        raise HarpError(f"operator {name!r} is none that a graph may use; {choices(name, OPERATORS)}")
    if name == "getitem":
        parameters = (Parameter("self", "Tensors", False, None, True), Parameter("index", "int", False, None, True))
        return Operator(name, parameters)
    kind, given = _schemas()[name]
    return Operator(name, tuple(_parameter(*part) for part in given), kind)


@cache
def _schemas() -> dict[str, Any]:
    """Of each operator what it returns, and name, kind, default, and whether by keyword or required, of each argument.

    Written by `python -m harp.graph.calls`.
    """
    found: dict[str, Any] = json.loads(Path(__file__).with_name("schemas.json").read_bytes())
    return found


def _parameter(name: str, kind: str, keyword: bool, required: bool, default: Any) -> Parameter:
    return Parameter(name, kind, keyword, tuple(default) if isinstance(default, list) else default, required)


def fits(value: Value, kind: str, made: Mapping[str, str]) -> bool:
    """Whether an argument may be `value` by its schema's type; `made` holds what kind of value each name stands for."""
    if kind.startswith("Optional["):
        return value is None or fits(value, kind[9:-1], made)
    if kind.startswith("List["):
        return isinstance(value, tuple) and all(fits(part, kind[5:-1], made) for part in value)
    if isinstance(value, Ref):
        return made.get(value.name) == {"number": "int", "float": "int"}.get(kind, kind)
    return _plain(value, kind)


def _plain(value: Value, kind: str) -> bool:
    if kind == "int":
        return type(value) is int and -(2**63) <= value < 2**63
    if kind in ("float", "number"):
        return type(value) is float or _plain(value, "int") or (kind == "number" and type(value) is bool)
    if kind in ("bool", "str"):
        return type(value).__name__ == kind
    valid = {"ScalarType": DTYPES, "Layout": LAYOUTS, "MemoryFormat": FORMATS}.get(kind)
    return valid is not None and isinstance(value, str) and value in valid
