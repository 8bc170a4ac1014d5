"""One way to say each thing: several operators of PyTorch that mean the same become one."""

from collections.abc import Callable
from typing import Any

from harp.errors import HarpError
from harp.graph.ir import Value
from harp.graph.operators import OPERATORS

Given = dict[str, Value]  # arguments by their names in the schema
# Operators that also return what only training needs: their first result, by the operator that returns it alone.
SINGLE = {
    # by the input's own statistics: of weights [1, n, k] that is weight standardisation, and instance norm
    "_native_batch_norm_legit.no_stats": "instance_norm",
    "_native_batch_norm_legit_no_training": "batch_norm",
    "native_layer_norm": "layer_norm",
    "max_pool2d_with_indices": "max_pool2d",
}


def normal(name: str, given: Given, node: Any, of_images: bool) -> tuple[str, Given]:
    """The operator and arguments that stand in a graph for these.

    `node` is the step in the exported program, `of_images` whether it computes with what depends on the images. Raises
    `HarpError` for batch norm by the batch's own statistics, which mixes its images.
    """
    if name == "_native_batch_norm_legit.no_stats" and (of_images or node.args[0].meta["val"].shape[0] != 1):
        raise HarpError("a batch norm without running statistics: logits would depend on the other images of a batch")
    if name in SINGLE:
        _only_first(name, node)
        name = SINGLE[name]
    if name in FORMS:
        name, given = FORMS[name](given, node)
    name = _scalar(name, given)
    return name, _spelled(name, given)


def _only_first(name: str, node: Any) -> None:
    if any(user.args[1] != 0 for user in node.users):
        raise HarpError(f"{name}: only its first result can stand in a graph")


def _batch_norm(given: Given, _: Any) -> tuple[str, Given]:
    return "batch_norm", given | {"training": False, "cudnn_enabled": False}


def _instance_norm(given: Given, _: Any) -> tuple[str, Given]:
    given = {"running_mean": None, "running_var": None, "use_input_stats": True, "cudnn_enabled": False} | given
    return "instance_norm", given


def _cast(given: Given, _: Any) -> tuple[str, Given]:
    if given.get("dtype") is None:
        return "clone", given
    return "to.dtype", given


def _padded(given: Given, node: Any) -> tuple[str, Given]:
    """conv2d with `padding` in words: `same` pads, in all, dilation * (kernel - 1) pixels."""
    kernel = node.args[1].meta["val"].shape[2:]
    words, steps = given.pop("padding", "valid"), given.get("dilation", (1,) * len(kernel))
    steps = steps * (len(kernel) // len(steps))
    total = [step * (size - 1) if words == "same" else 0 for step, size in zip(steps, kernel, strict=True)]
    if any(pixels % 2 for pixels in total):
        return "conv2d.padding", given | {"padding": words}
    return "conv2d", given | {"padding": tuple(pixels // 2 for pixels in total)}


FORMS: dict[str, Callable[[Given, Any], tuple[str, Given]]] = {
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "_to_copy": _cast,
    "_unsafe_view": lambda given, _: ("view", given),
    "conv2d.padding": _padded,
}


def _scalar(name: str, given: Given) -> str:
    """The form of an operator on two tensors for a tensor and a number."""
    scalar = name.replace(".Tensor", ".Scalar")
    number = isinstance(given.get("other"), int | float)
    return scalar if number and scalar in OPERATORS else name


def _spelled(name: str, given: Given) -> Given:
    """Sizes for both directions: (3,) is (3, 3) in two dimensions, and a pool without stride moves by its kernel."""
    if "pool" in name and given.get("stride", ()) == () and "kernel_size" in given:
        given = given | {"stride": given["kernel_size"]}
    if not name.endswith("2d"):
        return given
    sizes = ("kernel_size", "stride", "padding", "dilation")
    return given | {key: given[key] * 2 for key in sizes if isinstance(given.get(key), tuple) and len(given[key]) == 1}
