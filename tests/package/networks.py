"""Small graphs by hand, and files made of parts that no writer would put together."""

import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harp.graph import Graph, Node, Ref
from harp.package.codec import DTYPES
from harp.package.container import load
from tests.package.reader import WIDTHS


def pruned(shape: tuple[int, ...], density: float, seed: int = 0) -> Tensor:
    """Normal values, those of a random share `density`; the others are +0.0."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator)
    return torch.where(torch.rand(shape, generator=generator) < density, values, torch.zeros(()))


def network(density: float = 0.1) -> Graph:
    """A convolution, ReLU, mean and linear layer: images [n, 3, 6, 5] to logits [n, 4]."""
    conv = (Ref("x"), Ref("conv.weight"), Ref("conv.bias"), (1, 1), (1, 1), (1, 1), 1)
    nodes = (
        Node("conv", "conv2d", conv),
        Node("relu", "relu", (Ref("conv"),)),
        Node("mean", "mean.dim", (Ref("relu"), (2, 3), False, None)),
        Node("logits", "linear", (Ref("mean"), Ref("fc.weight"), Ref("fc.bias"))),
    )
    tensors = {
        "conv.weight": pruned((16, 3, 3, 3), density),
        "conv.bias": pruned((16,), 1.0, 1),
        "fc.weight": pruned((4, 16), density, 2),
        "fc.bias": pruned((4,), 1.0, 3),
    }
    return Graph("x", (3, 6, 5), nodes, "logits", tensors)


def bits(tensor: Tensor) -> bytes:
    return bytes(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)


def resealed(path: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> None:
    """The package in `path` after `change` of its document and sections, with right lengths, digests and seal."""
    contents = load(path)
    sections = {name: bytes(contents.bytes(name)) for name in contents.spans if name != "seal"}
    document = json.loads(zlib.decompress(sections["manifest"]))
    change(document, sections)
    if "text" in document:  # instead of the document itself
        sections["manifest"] = zlib.compress(document["text"])
    else:
        sections["manifest"] = zlib.compress(json.dumps(document).encode())
    path.write_bytes(sealed(header_of(sections), sections))


def header_of(sections: dict[str, bytes], version: str = "1.0") -> dict[str, Any]:
    """A right header for the sections."""
    metadata = {"format": "harp.package", "version": version}
    metadata |= {f"sha256.{name}": hashlib.sha256(data).hexdigest() for name, data in sections.items()}
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, data in {**sections, "seal": bytes(32)}.items():
        begin, end = end, end + len(data)
        dtype, width = DTYPES.get(name, "U8"), WIDTHS.get(name, 1)
        header[name] = {"dtype": dtype, "shape": [len(data) // width], "data_offsets": [begin, end]}
    return header


def sealed(header: Any, sections: dict[str, bytes]) -> bytes:
    """A file of that header, whatever it says, and a right seal."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    start = len(text).to_bytes(8, "little") + text
    return start + b"".join(sections.values()) + hashlib.sha256(start).digest()
