"""Images a second from a folder of JPEGs of many sizes: `Streamed`, bare decoding, torch's DataLoader, and grain.

    .venv/bin/python benchmarks/loading.py [--images 2000] [--size 224] [--workers 2] [--rounds 5] [--out FILE]

All do the same work, by the same functions: read the file, decode it, cut out the same window and resize it to `--size`
pixels. "bare" is that in a pool of threads and nothing else, no order, no batch; "decode" is simplejpeg alone, without
window and size. "bytes" is harp's loader up to uint8 batches, "harp" `Streamed` up to float32 in [0, 1], as `fit` gets
it, which on a CPU is mostly the memory for it. Torch's DataLoader and grain (where it is installed) have as many worker
processes as the others have threads, and their batches become float32 in the same way. They take turns within a round,
so that what slows the machine slows all; ratios are of medians over rounds. Start-up is left out: each is asked for one
batch before its time is taken.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from harp.data import Reading, Stored, Streamed, load
from harp.data.batches import unit
from harp.data.jpeg import fast, header
from harp.data.order import Permutation
from harp.data.pictures import picture
from harp.data.stored import Wanted
from harp.data.streamed import AHEAD
from harp.runs import environment

BATCH = 64


def make_folder(root: Path, images: int, longest: int = 500) -> Path:
    """So many JPEGs in two classes, sides from 3/5 of `longest` to it, and a test picture of each class.

    A few pictures are encoded and then written often, their comments apart, since encoding is what takes time.
    """
    draws = np.random.default_rng(0)
    kinds = []
    for _ in range(40):
        height, width = (int(side) for side in draws.integers(longest * 3 // 5, longest + 1, 2))
        few = Image.fromarray(draws.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels = np.asarray(few.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
        noisy = (pixels + draws.integers(-12, 13, pixels.shape)).clip(0, 255).astype(np.uint8)
        path = root / "encoded.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).save(path, quality=90)
        kinds.append(path.read_bytes())
    for number in range(images):
        data, note = kinds[number % len(kinds)], f"{number:08}".encode()
        comment = b"\xff\xfe" + (len(note) + 2).to_bytes(2, "big") + note
        place = root / "train" / "ab"[number % 2] / f"{number:07}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data[:2] + comment + data[2:])
    for name in "ab":
        (root / "test" / name).mkdir(parents=True)
        (root / "test" / name / "0.jpg").write_bytes(kinds[0])
    return root


class Mapped(torch.utils.data.Dataset[torch.Tensor]):
    """The same images, by number, as torch's and grain's loaders want them."""

    def __init__(self, stored: Stored):
        self.paths = [stored.places.where(number) for number in range(len(stored))]
        self.fit = stored.reading.fit

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> torch.Tensor:
        path = self.paths[number]
        return torch.from_numpy(np.ascontiguousarray(picture(path, Path(path), self.fit))).permute(2, 0, 1).contiguous()


class Arrays(Mapped):
    """As `Mapped`, as arrays."""

    def __getitem__(self, number: int) -> Any:
        return super().__getitem__(number).numpy()


def in_threads(stored: Stored, workers: int, make: Callable[[int], object]) -> Iterator[int]:
    """The sizes of batches, each made picture by picture in a pool."""
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(stored), BATCH):
            yield len(list(pool.map(make, range(start, min(start + BATCH, len(stored))))))


def decoded(stored: Stored, number: int) -> object:
    data = stored.places.read(number)
    found = header(data)
    return fast(data, found, 1) if found else picture("", data)


def contestants(stored: Stored, workers: int) -> dict[str, Callable[[], Iterator[int]]]:
    """By name what begins a pass and yields the size of each batch."""
    fit, places = stored.reading.fit, stored.places

    def by_torch() -> Iterator[int]:
        loader = torch.utils.data.DataLoader(Mapped(stored), BATCH, shuffle=True, num_workers=workers)
        return (len(unit(batch)) for batch in loader)

    found: dict[str, Callable[[], Iterator[int]]] = {
        "decode": lambda: in_threads(stored, workers, lambda number: decoded(stored, number)),
        "bare": lambda: in_threads(stored, workers, lambda number: picture("", places.read(number), fit)),
        "bytes": lambda: map(len, stored.batches(_wanted(len(stored)), AHEAD * BATCH)),
        "harp": lambda: (len(x) for x, _ in _epoch(Streamed(stored, BATCH, 0, device="cpu"))),
        "torch": by_torch,
    }
    if find_spec("grain"):
        grain = import_module("grain")

        def by_grain() -> Iterator[int]:
            options = {"shuffle": True, "seed": 0, "num_epochs": 1, "worker_count": workers}
            batched = [grain.transforms.Batch(BATCH, drop_remainder=True)]
            return (
                len(unit(torch.from_numpy(batch)))
                for batch in grain.load(Arrays(stored), transformations=batched, **options)
            )

        found["grain"] = by_grain
    return found


def _wanted(n: int) -> Iterator[Wanted]:
    order = Permutation(n, 0, ("order", 0))
    return ((order(torch.arange(start, start + BATCH)), None) for start in range(0, n - BATCH + 1, BATCH))


def _epoch(data: Streamed) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return islice(data.after(0), data.steps_per_epoch)


def rate(begin: Callable[[], Iterator[int]]) -> float:
    """Images a second after the first batch."""
    batches = begin()
    next(batches)
    began = time.perf_counter()
    return sum(batches) / (time.perf_counter() - began)


def compare(names: Sequence[str], rates: dict[str, list[float]]) -> None:
    medians = {name: statistics.median(rates[name]) for name in names}
    for name in names:
        low, high = min(rates[name]), max(rates[name])
        share = medians["harp"] / medians[name]
        print(f"{name:7} {medians[name]:7.0f} images/s ({low:.0f} to {high:.0f}); harp is {100 * share:.0f} % of it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    # What decodes in several threads or processes shall not start threads of its own in each.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as box:
        root = make_folder(Path(box), options.images)
        reading = Reading((options.size, options.size), stream="always", workers=options.workers)
        stored = load("folder", root, reading=reading).train
        assert isinstance(stored, Stored)
        begins = contestants(stored, options.workers)
        rates: dict[str, list[float]] = {name: [] for name in begins}
        for turn in range(options.rounds):
            # Another begins each time.
            for name in [*begins][turn % len(begins) :] + [*begins][: turn % len(begins)]:
                rates[name].append(rate(begins[name]))
        compare([*begins], rates)
    if options.out:
        about = {"images": options.images, "size": options.size, "workers": options.workers, "batch": BATCH}
        found = {**about, "environment": environment(torch.device("cpu")), "images_per_second": rates}
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
