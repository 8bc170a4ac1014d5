"""Zeros around rows stay zeros, and nothing beyond a program's planes is written or matters."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from numpy.typing import NDArray

from harp.graph import Graph, to_arrays
from harp.runtime import Alone
from harp.runtime.memory import Planes
from harp.runtime.program import Compiled, Steps
from tests.runtime.graphs import BUILT, FP16, graphs

pytestmark = pytest.mark.skipif(not BUILT, reason="the sparse engine is not built here")


class Watched:
    """A network in the engine, and of its arena which numbers lie in rows, and which in planes."""

    def __init__(self, graph: Graph, variant: str, patch: pytest.MonkeyPatch):
        self._planes: dict[int, list[Planes]] = {}
        done = Steps.done

        def recording(steps: Steps) -> Compiled:
            made = done(steps)
            self._planes[id(made)] = list(steps.planes.values())
            return made

        patch.setattr(Steps, "done", recording)
        self.network = Alone(to_arrays(graph), variant=variant)

    def arenas(self) -> list[tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]]:
        """Each segment's arena, where its rows are, and where its planes are."""
        return [self._arena(caller) for caller in self.network._idle[0]]

    def _arena(self, caller: Any) -> Any:
        (arena,) = caller._ready.arenas
        rows, planes = np.zeros(arena.shape, bool), np.zeros(arena.shape, bool)
        start = 0
        for part in (caller.compiled.whole, caller.compiled.head, caller.compiled.tail):
            if part is None:
                continue
            lanes = part.program.images
            for value in self._planes[id(part)]:
                first = value.at - value.head
                planes[start + first * lanes : start + (first + value.size) * lanes] = True
                at = value.at + np.arange(value.channels)[:, None, None] * value.plane
                at = at + np.arange(value.height)[:, None] * value.pitch + np.arange(value.width)
                rows[start + (at.reshape(-1, 1) * lanes + np.arange(lanes)).reshape(-1)] = True
            start += part.size * lanes
        planes[start:] = rows[start:] = True  # what is handed from single images to blocks
        return arena, rows, planes


@pytest.mark.parametrize("variant", BUILT + FP16)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=graphs(), images=st.sampled_from([1, 2, 17, 33]))
def test_padding_is_never_written_and_what_is_beyond_never_read(
    variant: str, graph: Graph, images: int, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        watched = Watched(graph, variant, patch)
        x = np.random.default_rng(images).random((images, *graph.shape), np.float32)
        clean = watched.network(x)
        for arena, rows, planes in watched.arenas():
            assert not arena[planes & ~rows].any()
            arena[~planes] = np.nan
        assert np.array_equal(watched.network(x), clean, equal_nan=True)
        for arena, rows, planes in watched.arenas():
            assert not arena[planes & ~rows].any()
            assert np.isnan(arena[~planes]).all()
