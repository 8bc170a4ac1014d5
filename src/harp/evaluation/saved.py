"""The adversarial images of a record as one file that numpy alone reads."""

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy
import torch
from numpy.lib import format as npy
from torch import Tensor

from harp.ambient import precise
from harp.drafts import create, draft
from harp.errors import HarpError
from harp.evaluation.evaluate import Batches, once
from harp.evaluation.gathered import gathered
from harp.evaluation.passes import fingerprints
from harp.evaluation.record import Record
from harp.evaluation.verdicts import SLACK
from harp.files import writing
from harp.threats import Threat

IMAGES = "images.npy"
SUFFIX = ".npz"


@precise()
def save_images(path: Path, folder: Path, batches: Batches, threat: Threat, index: Tensor) -> int:
    """How many adversarial images `path` now holds, of the record in `folder`: a zip of arrays, nothing pickled.

    `batches` are those that were evaluated, n images in all, `index` (int64 [n]) their places in the data set. The
    arrays, a row an image:

    - `images` float32 [n, c, h, w]: of the adversarial images that broke it the nearest, and the image itself where
      none did; `labels`, `index` int64 [n].
    - `clean`, `right` bool [n]: whether the network is right on the image itself, and that and under every attack.
    - `broken_by` text [n]: whose image it is; "clean" where the image itself was wrong, "" where it held.
    - `distance` float32 [n]: its norm; 0 where the image itself was wrong, infinite where it held.
    - `norm`, `eps`, `low`, `high` float64 and `model` text, one each: the threat, and the digest of the weights.

    The file is read back, and has its name only once every image in it was found within the threat, to 1e-6. Raises
    `HarpError` where there is no finished record of these images, and where the disk refuses.
    """
    record = Record(folder, None)
    _check_threat(record, threat)
    table = _table(record, folder, once(batches), threat, index)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft(path) as partial:
            with create(partial) as file, zipfile.ZipFile(file, "w") as archive:
                for name, values in table.arrays.items():
                    with _member(archive, f"{name}.npy") as member:
                        npy.write_array(member, values, allow_pickle=False)
                with _member(archive, IMAGES) as member:
                    _write_images(member, record, batches, table)
            _check(partial, batches, threat)
    return sum(name != "" for name in table.nearest)


@dataclass(frozen=True)
class _Table:
    """All arrays but the images; `nearest` is each image's attack, "" where none broke it, and `shape` one image's."""

    arrays: dict[str, Any]
    nearest: list[str]
    shape: tuple[int, ...]


def _check_threat(record: Record, threat: Threat) -> None:
    if record.asked.get("threat") != repr(threat):
        raise HarpError(f"{record.folder} holds the record of {record.asked.get('threat')}; expected {threat!r}")


def _table(
    record: Record, folder: Path, batches: Iterator[tuple[Tensor, Tensor]], threat: Threat, index: Tensor
) -> _Table:
    attacks = tuple(record.asked["attacks"])
    distance, nearest, count, shape = torch.zeros(0), list[str](), 0, tuple[int, ...]()
    for place, (x, y) in enumerate(batches):
        trees = {name: record.get(name, place) or {} for name in ("clean", *attacks)}
        if not all(trees.values()) or not torch.equal(trees["clean"]["images"], fingerprints(x, y)):
            raise HarpError(f"{folder} holds no finished record of these images")
        shape, count = tuple(x.shape[1:]), place + 1
        near, by = torch.where(trees["clean"]["right"].cpu(), math.inf, 0.0), ["" for _ in y]
        for name in attacks:
            for row, far in zip(trees[name]["places"].tolist(), trees[name]["distance"].tolist(), strict=True):
                if far < near[row]:
                    near[row], by[row] = far, name
        distance, nearest = torch.cat([distance, near]), nearest + by
    found = gathered(record, count, attacks, record.asked["cascade"])
    if len(index) != len(found.labels):
        raise HarpError(f"index has {len(index)} places; expected {len(found.labels)}, one an image")
    clean = found.flags["clean"]
    told = [name or ("" if right else "clean") for name, right in zip(nearest, clean.tolist(), strict=True)]
    arrays = {
        "labels": found.labels.numpy(),
        "index": index.numpy(),
        "clean": clean.numpy(),
        "right": found.flags["worst"].numpy(),
        "broken_by": numpy.array(told, dtype=numpy.str_),
        "distance": distance.numpy(),
        **{name: numpy.float64(getattr(threat, name)) for name in ("norm", "eps", "low", "high")},
        "model": numpy.str_(record.asked["model"]),
    }
    return _Table(arrays, nearest, shape)


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    # One time for all, so that the same record gives the same bytes; sizes beyond 4 GB, as they are not known yet.
    return archive.open(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), "w", force_zip64=True)


def _write_images(member: IO[bytes], record: Record, batches: Batches, table: _Table) -> None:
    """A batch at a time: of a large set all of them would not fit into memory."""
    shape = (len(table.nearest), *table.shape)
    npy.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": shape})
    begin = 0
    for place, (x, _) in enumerate(once(batches)):
        images, by = x.detach().float().cpu().clone(), table.nearest[begin : begin + len(x)]
        for name in sorted({*by} - {""}):
            tree = record.get(name, place)
            assert tree is not None
            rows = {row: number for number, row in enumerate(tree["places"].tolist())}
            mine = [row for row, attack in enumerate(by) if attack == name]
            images[mine] = tree["adv"].float().cpu()[[rows[row] for row in mine]]
        member.write(images.numpy().astype("<f4").tobytes())
        begin += len(x)


def _check(path: Path, batches: Batches, threat: Threat) -> None:
    """Raises `HarpError` where an image in the file is not within the threat around the image it was made from."""
    first = 0
    with zipfile.ZipFile(path) as archive, archive.open(IMAGES) as member:
        npy.read_magic(member)
        shape, _, dtype = npy.read_array_header_1_0(member)
        for x, _ in once(batches):
            size = len(x) * math.prod(shape[1:]) * dtype.itemsize
            read = numpy.frombuffer(member.read(size), dtype).reshape(len(x), *shape[1:])
            adv = torch.from_numpy(read.astype(numpy.float32))
            excess = threat.excess(adv, x.detach().float().cpu())
            bad = ~(excess <= SLACK * max(1, threat.eps))
            if bad.any():
                place = first + int(bad.nonzero()[0])
                raise HarpError(f"{path}: image {place} lies outside {threat} by {float(excess.max()):.2g}")
            first += len(x)
