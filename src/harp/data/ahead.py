"""Work in threads, a bounded number of pieces ahead of whoever uses what comes out."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ahead(make: Callable[[Given], Made], pieces: Iterable[Given], workers: int, depth: int) -> Iterator[Made]:
    """What `make` gives for each of the pieces, in their order, made by `workers` threads.

    At most `depth` pieces are begun before they are asked for; the pieces themselves are drawn as they are begun, in
    the caller's thread. What `make` raises is raised in its turn. Threads end with the iterator.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="harp-data")
    begun: deque[Future[Made]] = deque()
    try:
        for piece in pieces:
            begun.append(pool.submit(make, piece))
            if len(begun) > depth:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
