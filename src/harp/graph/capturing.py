"""A PyTorch module as a graph, by `torch.export`: what it computes in eval mode, without its Python."""

from typing import Any

import torch
from torch import Tensor, nn

from harp.ambient import precise
from harp.copies import copied
from harp.errors import HarpError
from harp.graph.ir import Graph
from harp.graph.splitting import split
from harp.graph.translate import translate
from harp.quiet import quiet
from harp.wrappers import unwrapped

BATCH = "batch"  # what the open number of images is called


@precise()
def capture(model: nn.Module, example: Tensor) -> Graph:
    """The graph of `model` in eval mode, from images [n, *shape] to logits [n, classes].

    `example` [m, *shape] gives shape, dtype and device; its values do not matter. Tensors are copies on the CPU, under
    their names in the `state_dict`, tied ones under the first of their names; a wrapper such as `DataParallel` or
    `torch.compile` is passed over. The number of images is left open; a network whose computation depends on it is
    captured for one at a time (`Graph.batch` is 1). The model is left as it is. Operators are PyTorch's own, so the
    graph gives the model's logits bit for bit (weights laid out contiguously); one that stands for others, and is none
    of `harp.graph.operators`, is taken apart by PyTorch's rules, to the rounding of a sum.

    Raises `HarpError` for a network that decides by the values of its images what to compute, that is random or
    changes its buffers or mixes the images of a batch in eval mode, that returns anything but one tensor of logits,
    or that uses an operator which can neither be kept nor taken apart.
    """
    program, batch = exported(model, example)
    with quiet(), torch.no_grad():
        try:
            return translate(split(program), tuple(example.shape[1:]), batch)
        except HarpError:
            raise
        except Exception as error:  # whatever PyTorch's rules raise
            raise HarpError(f"the network cannot be captured as a graph: {_line(error)}") from error


def exported(model: nn.Module, example: Tensor, single: bool = False) -> tuple[Any, int | None]:
    """The `torch.export.ExportedProgram` of a copy of `model` in eval mode, and the number of images it takes.

    None where any number will do, else 1, which `single` asks for. Raises `HarpError` as `capture` does, but for what
    the program then holds.
    """
    if example.ndim < 2 or len(example) == 0:
        raise HarpError(f"an example of shape {list(example.shape)}; expected at least one image [n, ...]")
    twin = _twin(model)
    # The exporter logs a network's whole graph beside each refusal.
    with quiet(), torch.no_grad():
        for batch, strict in () if single else _WAYS[:-1]:
            try:
                return _program(twin, example, batch, strict), batch
            except Exception:  # whatever the tracing of a foreign network raises; the last way tells
                continue
        try:
            return _program(twin, example, *_WAYS[-1]), _WAYS[-1][0]
        except Exception as error:
            raise HarpError(
                f"the network cannot be captured as a graph: {_line(error)}; expected one whose steps do not depend on "
                "the values of its images and whose forward takes one tensor"
            ) from error


# How many images, and whether Python itself is read (`strict`), which sees through len(x) and int(x.shape[0]).
_WAYS: tuple[tuple[int | None, bool], ...] = ((None, False), (None, True), (1, False))


def _twin(model: nn.Module) -> nn.Module:
    model = unwrapped(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise HarpError(
            "a TorchScript network cannot be captured as a graph; expected the Python module it was made from"
        )
    return copied(model).eval()


def _program(model: nn.Module, example: Tensor, batch: int | None, strict: bool) -> Any:
    # Two images where the number is left open: torch.export takes a size of 1 for a constant.
    x = example[:1].detach() if batch else torch.cat([example[:1].detach()] * 2)
    if batch:
        return torch.export.export(model, (x,), strict=strict)
    # By the tensor, and not by place: a forward may spell its arguments as *args.
    sizes: Any = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
    sizes[x] = {0: torch.export.Dim(BATCH, min=1)}
    sizes = sizes.dynamic_shapes(model, (x,))
    return torch.export.export(model, (x,), dynamic_shapes=sizes, strict=strict)


def _line(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text[:200]}"
