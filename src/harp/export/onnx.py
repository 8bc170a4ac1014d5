"""A network as an ONNX file, and the proof that ONNX Runtime reads the same network from it."""

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harp.ambient import precise
from harp.errors import HarpError
from harp.export.agreement import Answer, agree, steady
from harp.extras import need
from harp.graph import BATCH, exported
from harp.models import plain
from harp.quiet import quiet
from harp.runs import write_atomic
from harp.wrappers import unwrapped

IMAGES, LOGITS = "images", "logits"
TOLERANCE = 1e-4


@precise()
def to_onnx(
    model: nn.Module, example: Tensor, path: Path | str, tolerance: float = TOLERANCE, *, single: bool = False
) -> dict[str, Any]:
    """What is in the ONNX file at `path`: its bytes, sha256, opset, and how far ONNX Runtime's logits are from torch's.

    `example` is float32 [n, c, h, w]; the file takes "images" [batch, c, h, w], any number of them, to "logits", or, if
    `single`, one at a time, which leaves no arithmetic with their number in the graph, as verifiers want it. The graph
    is traced by torch.export in eval mode, holds no source lines or paths, passes `onnx.checker`, and is written only
    where ONNX Runtime gives the network's logits on the example, one, two and all at once (`single`: each alone), to
    `tolerance` of the largest (`harp.export.agreement`). Raises `HarpError` where a library of the extra `onnx` is
    missing, where the network is random or changes itself in eval mode or cannot be traced for any number of images,
    and where the logits differ.
    """
    path, model = Path(path), plain(unwrapped(model))
    steady(model, example)
    model_proto = _exported(model, example[:1] if single else example, single)
    data: bytes = model_proto.SerializeToString()
    batches = list(torch.split(example, 1)) if single else [example, example[:1], example[:2]]
    found = agree(model, onnx_session(data), batches, tolerance, "ONNX Runtime")
    write_atomic(path, data)
    return {
        "file": path.name,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "opset": max(opset.version for opset in model_proto.opset_import if not opset.domain),
        "checked_images": len(example),
        "difference": found.difference,
    }


def onnx_session(source: bytes | Path, threads: int = 1, batch: int | None = None) -> Answer:
    """ONNX Runtime on the CPU with so many threads, as a function from images to logits, both float32 on the CPU.

    A `batch` promises as many images at every call, which the runtime may plan for.
    """
    runtime = need("onnxruntime", "onnx", "ONNX Runtime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    if batch is not None:
        options.add_free_dimension_override_by_name(BATCH, batch)
    model = str(source) if isinstance(source, Path) else source
    try:
        session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no class in common
        raise HarpError(
            f"ONNX Runtime cannot run the network, which should compute in float32 (model.float()): {_reason(error)}"
        ) from error
    return lambda x: torch.from_numpy(session.run(None, {IMAGES: x.detach().cpu().numpy()})[0])


def _exported(model: nn.Module, example: Tensor, single: bool) -> Any:
    onnx = need("onnx", "onnx", "an ONNX export")
    need("onnxscript", "onnx", "an ONNX export")
    try:
        traced, batch = exported(model, example, single)
    except HarpError as error:
        raise HarpError(f"the network cannot be written as ONNX: {error}") from error
    if (count := len(traced.graph_signature.user_outputs)) != 1:
        raise HarpError(f"the network returns {count} values; expected logits, which harp.Logits picks")
    if batch is not None and not single:
        raise HarpError("the network cannot be written as ONNX for any number of images, only for one number")
    try:
        with torch.no_grad(), quiet():
            program = torch.onnx.export(
                traced, (example,), dynamo=True, input_names=[IMAGES], output_names=[LOGITS], verbose=False
            )
        assert program is not None
        proto = program.model_proto
        _anonymous(proto)
        if not single:
            _call_batch(proto)
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # whatever the writing of a foreign network raises
        raise HarpError(f"the network cannot be written as ONNX ({_reason(error)})") from error
    return proto


def _reason(error: BaseException) -> str:
    """The first line of the exception that began it all; those on top of it tell what the exporter was about."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line[:300]}"


def _call_batch(proto: Any) -> None:
    """The open number of images under its own name, which tracing numbers at random."""
    (name,) = (value.type.tensor_type.shape.dim[0].dim_param for value in proto.graph.input)
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = re.sub(rf"\b{re.escape(name)}\b", BATCH, size.dim_param)


def _anonymous(proto: Any) -> None:
    """Without the notes for debugging, which hold lines of source and the paths of the machine."""
    graphs = [proto.graph, *proto.functions]
    for part in (proto, *graphs, *(node for graph in graphs for node in graph.node)):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info, *proto.graph.initializer):
        value.ClearField("doc_string")
        value.ClearField("metadata_props")
