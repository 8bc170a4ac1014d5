"""Who can run a network on a CPU: harp's engine, PyTorch in three ways, ONNX Runtime, OpenVINO; also in fewer bits."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from harp.bench.subject import Subject
from harp.errors import HarpError
from harp.export import load, onnx_session
from harp.extras import need
from harp.processor import sentence

Answer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Runner:
    """A way to run a network.

    `make` takes the network, the images it will be given and the number of threads to a function from images to
    logits; it raises `HarpError` where the runner is not installed or cannot run the network. `libraries` are imported
    before its memory is counted. Those with `dense` take no notice of zeros; those that are `rounded` compute with
    fewer bits than float32, so their logits are others.
    """

    make: Callable[[Subject, Tensor, int], Answer]
    libraries: tuple[str, ...] = ()
    dense: bool = True
    rounded: bool = False


def _harp(subject: Subject, x: Tensor, threads: int) -> Answer:
    return load(subject.package, threads)


def _harp_fp16(subject: Subject, x: Tensor, threads: int) -> Answer:
    return load(subject.package, threads, "fp16")


def _eager(subject: Subject, x: Tensor, threads: int) -> Answer:
    model = subject.model
    return lambda x: model(x.contiguous(memory_format=torch.channels_last))


def _frozen(subject: Subject, x: Tensor, threads: int) -> Answer:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still the fastest PyTorch on many CPUs
        traced = torch.jit.freeze(torch.jit.trace(subject.model, x))  # type: ignore[no-untyped-call]
        answer: Answer = torch.jit.optimize_for_inference(traced)
    return answer


def _compiled(subject: Subject, x: Tensor, threads: int) -> Answer:
    answer: Answer = torch.compile(subject.model, fullgraph=True)
    return answer


def _onnxruntime(subject: Subject, x: Tensor, threads: int) -> Answer:
    return onnx_session(subject.onnx, threads, len(x))


def _onnxruntime_int8(subject: Subject, x: Tensor, threads: int) -> Answer:
    return onnx_session(subject.onnx_int8, threads, len(x))


def _openvino(subject: Subject, x: Tensor, threads: int) -> Answer:
    # Left to itself it would compute in bfloat16 where the processor can: another network, and another quality.
    return _openvino_in("f32", subject.onnx, x, threads)


def _openvino_bf16(subject: Subject, x: Tensor, threads: int) -> Answer:
    core = need("openvino", "bench", "OpenVINO").Core()
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise HarpError(f"no bfloat16 here, so OpenVINO would compute in float32 without a word ({sentence()})")
    return _openvino_in("bf16", subject.onnx, x, threads)


def _openvino_int8(subject: Subject, x: Tensor, threads: int) -> Answer:
    return _openvino_in("f32", subject.onnx_int8, x, threads)  # what is not in eight bits


def _openvino_in(precision: str, path: Path, x: Tensor, threads: int) -> Answer:
    core = need("openvino", "bench", "OpenVINO").Core()
    model = core.read_model(str(path))
    model.reshape({model.input(0): list(x.shape)})
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda x: torch.from_numpy(request.infer([x.numpy()], share_inputs=True, share_outputs=True)[0])


RUNNERS = {
    "harp": Runner(_harp, dense=False),
    "harp fp16": Runner(_harp_fp16, dense=False, rounded=True),
    "torch eager": Runner(_eager),
    "torch frozen": Runner(_frozen),
    "torch.compile": Runner(_compiled),
    "ONNX Runtime": Runner(_onnxruntime, ("onnxruntime",)),
    "OpenVINO f32": Runner(_openvino, ("openvino",)),
    "OpenVINO bf16": Runner(_openvino_bf16, ("openvino",), rounded=True),
    "ONNX Runtime int8": Runner(_onnxruntime_int8, ("onnxruntime",), rounded=True),
    "OpenVINO int8": Runner(_openvino_int8, ("openvino",), rounded=True),
}
