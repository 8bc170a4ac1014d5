"""Times that can be compared: taken in turns, in processor time and by the clock, with intervals for their ratios."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy

LEAST = 0.01  # seconds; shorter samples would measure the clock and the loop
WARM = 3


@dataclass(frozen=True)
class Samples:
    """Seconds per call, one entry a round: by the clock, and of this process's processor time over all threads."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]
    repeats: int


@dataclass(frozen=True)
class Ratio:
    """How many times faster, the median over rounds, with a 95 % interval of that median."""

    ratio: float
    low: float
    high: float


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    least: float = LEAST,
    tick: Callable[[str], None] = lambda name: None,
) -> dict[str, Samples]:
    """What each call takes over so many rounds, each round timing every call once, in turn.

    A sample repeats its call often enough to last `least` seconds, after a warm-up of as long and three calls at
    least. So whatever slows the machine for a while slows all of them, and ratios within a round stay fair.
    """
    repeats = {name: _repeats(call, least) for name, call in calls.items()}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            taken[name].append(_sample(call, repeats[name]))
            tick(name)
    return {
        name: Samples(tuple(wall for wall, _ in pairs), tuple(cpu for _, cpu in pairs), repeats[name])
        for name, pairs in taken.items()
    }


def _repeats(call: Callable[[], object], least: float) -> int:
    begun, taken = time.perf_counter(), list[float]()
    while len(taken) < WARM or time.perf_counter() - begun < least:
        last = time.perf_counter()
        call()
        taken.append(time.perf_counter() - last)
    return math.ceil(least / max(min(taken), 1e-9))


def _sample(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        call()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return wall / repeats, cpu / repeats


def faster(than: Sequence[float], times: Sequence[float]) -> Ratio:
    """How many times faster `times` are than the times `than` of the same rounds: the median of the rounds' ratios.

    The interval is between order statistics of the ratios, which asks nothing of their distribution; of fewer than
    six rounds it is all of them, and then covers less than 95 %.
    """
    ratios = sorted(slow / fast for slow, fast in zip(than, times, strict=True))
    n = len(ratios)
    # Imported late, as in export: scipy.stats takes a second.
    from scipy.stats import binom

    outside = max(0, int(binom.ppf(0.025, n, 0.5)) - 1)
    return Ratio(float(numpy.median(ratios)), ratios[outside], ratios[n - 1 - outside])


def summarised(times: Sequence[float]) -> dict[str, float]:
    """`{"median": ..., "p10": ...}` in seconds: the middle, and what an undisturbed machine comes near to."""
    return {"median": float(numpy.median(times)), "p10": float(numpy.quantile(times, 0.1))}
