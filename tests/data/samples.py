"""Small files for the tests of the data room."""

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from scipy.io import savemat

from harp.data import Images, Reading, Stored, load

RED, BLUE = (255, 0, 0), (0, 0, 255)
ALWAYS = Reading(size=(6, 6), stream="always", workers=2)
SIZES = [(4, 6), (8, 8), (20, 9), (70, 90), (6, 4), (5, 5), (64, 64), (9, 30), (7, 7), (12, 8)]


def numbered(n: int, channels: int = 1, side: int = 4, classes: int = 2) -> Images:
    """n images, the i-th filled with the value i and labelled i mod classes."""
    values = torch.arange(n, dtype=torch.uint8)[:, None, None, None]
    return Images(values.expand(n, channels, side, side).contiguous(), torch.arange(n) % classes)


def png(colour: Any, size: tuple[int, int] = (4, 4), mode: str = "RGB", kind: str = "PNG") -> bytes:
    """One picture of one colour; `size` is width and height."""
    stream = io.BytesIO()
    Image.new(mode, size, colour).save(stream, kind)
    return stream.getvalue()


def shard(
    file: Path,
    pictures: list[bytes | None],
    labels: list[int | None],
    names: list[str] | None = None,
    columns: tuple[str, str] = ("img", "label"),
) -> Path:
    """A Parquet file as the hub has them: structs of bytes and path, class names in the metadata."""
    cells = [{"bytes": data, "path": None} for data in pictures]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({columns[0]: pa.array(cells, kind), columns[1]: pa.array(labels, pa.int64())})
    if names:
        features = {columns[0]: {"_type": "Image"}, columns[1]: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)
    return file


def parquet_set(root: Path, names: list[str] | None = None) -> Path:
    """Two training shards (red 0, blue 1, red 0) and one test shard (blue 1)."""
    names = ["red", "blue"] if names is None else names
    shard(root / "train-00000-of-00002.parquet", [png(RED), png(BLUE)], [0, 1], names)
    shard(root / "train-00001-of-00002.parquet", [png(RED)], [0], names)
    shard(root / "test-00000-of-00001.parquet", [png(BLUE)], [1], names)
    return root


def cifar_pickles(root: Path) -> Path:
    """torchvision's CIFAR-10 folder, two images per file: batch b is filled with b, the test batch with 9."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for value, name in [*((b, f"data_batch_{b}") for b in range(1, 6)), (9, "test_batch")]:
        dump(folder / name, {"data": np.full((2, 3072), value, np.uint8), "labels": [0, value]})
    dump(folder / "batches.meta", {"label_names": [f"class {number}" for number in range(10)]})
    return root


def svhn_files(root: Path, train: tuple[int, ...] = (1, 10, 9), test: tuple[int, ...] = (10, 2)) -> Path:
    """The two published .mat files; the i-th image is filled with i but for 200 at row 5, column 7 of channel 1."""
    for name, labels in (("train_32x32.mat", train), ("test_32x32.mat", test)):
        pixels = np.broadcast_to(np.arange(len(labels), dtype=np.uint8), (32, 32, 3, len(labels))).copy()
        pixels[5, 7, 1] = 200
        savemat(root / name, {"X": pixels, "y": np.array(labels, np.uint8)[:, None]}, do_compression=True)
    return root


def dump(file: Path, value: object) -> Path:
    """A pickle of the protocol that the original files have."""
    file.write_bytes(pickle.dumps(value, protocol=2))
    return file


def jpeg(number: int, size: tuple[int, int]) -> bytes:
    """A picture of noise of its own; `size` is height and width."""
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def picture_folder(root: Path, n: int = 10) -> Path:
    """n training pictures of many sizes in two classes, one test picture of each."""
    for number in range(n):
        place = root / "train" / "ab"[number % 2] / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(jpeg(number, SIZES[number % len(SIZES)]))
    for name, colour in (("a", RED), ("b", BLUE)):
        place = root / "test" / name / "1.png"
        place.parent.mkdir(parents=True)
        place.write_bytes(png(colour, size=(9, 5)))
    return root


def archive(file: Path, members: dict[str, bytes]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as made:
        for name, data in members.items():
            told = tarfile.TarInfo(name)
            told.size = len(data)
            made.addfile(told, io.BytesIO(data))
    return file


def tar_set(root: Path) -> Path:
    """Two training shards (red 0, blue 1, red 0) and one test shard (blue 1)."""
    archive(root / "train-000000.tar", {"a.png": png(RED), "a.cls": b"0", "b.png": png(BLUE), "b.cls": b"1"})
    archive(root / "train-000001.tar", {"c.cls": b"0\n", "c.json": b"{}", "c.png": png(RED)})
    archive(root / "test-000000.tar", {"x/d.png": png(BLUE), "x/d.cls": b"1"})
    return root


def train_of(name: str, root: Path, reading: Reading = ALWAYS) -> Stored:
    """The training part of the set."""
    train = load(name, root, reading=reading).train
    assert isinstance(train, Stored)
    return train
