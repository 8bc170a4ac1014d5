"""The same function on several ranks at once, each in a process of its own, joined by gloo."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import start_processes

from harp.ranks import Ranks, joining


def ranked(size: int, function: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """What `function(ranks, *arguments)` gives on each rank, in order; it is importable, what it gives can be saved."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start_processes(_one, (size, port, function, folder, arguments), nprocs=size, start_method="spawn")
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(size)]


def _one(
    rank: int, size: int, port: int, function: Callable[[Ranks], Any], folder: Path, arguments: tuple[Any, ...]
) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with joining() as ranks:
        torch.save(function(ranks, *arguments), folder / f"rank{rank}.pt")
