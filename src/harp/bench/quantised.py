"""The rival that people who want speed run: the network's ONNX file in eight bits, quantised statically."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from harp import processor
from harp.errors import HarpError
from harp.export.onnx import IMAGES
from harp.extras import need
from harp.files import write_atomic
from harp.quiet import quiet

CALIBRATION = 128  # images whose activations decide the ranges
TOGETHER = 16


def quantise(source: Path, images: Tensor, target: Path) -> None:
    """`target` is the ONNX file `source` with weights and activations of eight bits, as QDQ nodes; by `images`.

    Weights are symmetric, with a scale for each output channel, activations of unsigned bytes, their ranges the least
    and the most that `images` [n, c, h, w] give rise to. Without VNNI weights take seven bits, as onnxruntime's makers
    advise: sums of two products would not fit into 16 bits otherwise. Raises `HarpError` where onnxruntime is missing,
    and for a network that it cannot quantise.
    """
    quantization = need("onnxruntime.quantization", "bench", "int8 under ONNX Runtime and OpenVINO")
    preparing = need("onnxruntime.quantization.shape_inference", "bench", "int8 under ONNX Runtime and OpenVINO")
    with TemporaryDirectory() as folder, quiet():
        ready, made = Path(folder, "ready.onnx"), Path(folder, "int8.onnx")
        try:
            # Batch norms go into convolutions here, and shapes are written down; symbolic ones would ask for sympy.
            preparing.quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(ready),
                str(made),
                _Batches(images),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
                reduce_range=not _products_of_bytes(),
            )
        except Exception as error:  # its exceptions have no class in common
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise HarpError(f"the network cannot be quantised: {line[:200]}") from error
        write_atomic(target, made.read_bytes())


def _products_of_bytes() -> bool:
    return any(processor.features().get(name, False) for name in ("VNNI", "dot products"))


class _Batches:
    """Images as onnxruntime asks for them when it calibrates: batch by batch, then None."""

    def __init__(self, images: Tensor):
        self._parts: Iterator[Tensor] = iter(torch.split(images, TOGETHER))

    def get_next(self) -> dict[str, Any] | None:
        part = next(self._parts, None)
        return None if part is None else {IMAGES: part.numpy()}
