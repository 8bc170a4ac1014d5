"""Who can run a network on a CPU: harp's engine, PyTorch in three ways, ONNX Runtime, OpenVINO in float32."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harp.bench.subject import Subject
from harp.export import load, onnx_session
from harp.extras import need

Answer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Runner:
    """A way to run a network.

    `make` takes the network, the images it will be given and the number of threads to a function from images to
    logits; it raises `HarpError` where the runner is not installed or cannot run the network. `libraries` are imported
    before its memory is counted. Those with `dense` take no notice of zeros.
    """

    make: Callable[[Subject, Tensor, int], Answer]
    libraries: tuple[str, ...] = ()
    dense: bool = True


def _harp(subject: Subject, x: Tensor, threads: int) -> Answer:
    return load(subject.package, threads)


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


def _openvino(subject: Subject, x: Tensor, threads: int) -> Answer:
    core = need("openvino", "bench", "OpenVINO").Core()
    model = core.read_model(str(subject.onnx))
    model.reshape({model.input(0): list(x.shape)})
    # Left to itself it would compute in bfloat16 where the processor can: another network, and another quality.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda x: torch.from_numpy(request.infer([x.numpy()], share_inputs=True, share_outputs=True)[0])


RUNNERS = {
    "harp": Runner(_harp, dense=False),
    "torch eager": Runner(_eager),
    "torch frozen": Runner(_frozen),
    "torch.compile": Runner(_compiled),
    "ONNX Runtime": Runner(_onnxruntime, ("onnxruntime",)),
    "OpenVINO f32": Runner(_openvino, ("openvino",)),
}
