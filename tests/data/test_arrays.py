from typing import Any

import numpy as np
import pytest
import torch

from harp.data import load
from harp.errors import HarpError


def write(file, **changes):
    arrays: dict[str, Any] = {
        "train_images": np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4),
        "train_labels": np.array([0, 2], np.int32),
        "test_images": np.zeros((1, 1, 4, 4), np.uint8),
        "test_labels": np.array([1]),
    }
    arrays |= changes
    np.savez_compressed(file, **{name: array for name, array in arrays.items() if array is not None})
    return file


def test_the_arrays_come_back(tmp_path):
    data = load("arrays", write(tmp_path / "set.npz"))
    assert data.train.images.flatten().tolist() == list(range(32))
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 2], [1])
    assert data.classes == ("0", "1", "2")


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
def test_floats_become_float32(tmp_path, dtype):
    images = np.full((2, 1, 4, 4), 0.5, dtype)
    data = load("arrays", write(tmp_path / "set.npz", train_images=images))
    assert data.train.images.dtype == torch.float32
    assert (data.train.images == 0.5).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_labels": None}, "lacks the array 'test_labels'; did you mean"),
        ({"train_images": np.full((2, 1, 4, 4), np.nan)}, "train part: 2 of 2 images hold NaN"),
        ({"test_images": np.full((1, 1, 4, 4), 1.5)}, r"test part: 1 of 1 float images hold values outside"),
        ({"train_images": np.zeros((2, 1, 4, 4), np.int64)}, "train part: images are int64; expected uint8"),
        ({"train_images": np.zeros((2, 4, 4), np.uint8)}, r"expected \[n, c, h, w\]"),
        ({"train_labels": np.array([0.0, 1.0])}, "train part: labels are float64; expected whole numbers"),
        ({"train_labels": np.array([0, -1])}, "labels are negative"),
        ({"train_labels": np.array([0, object()])}, "not a whole .npz file of plain arrays"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, changes, message):
    with pytest.raises(HarpError, match=message):
        load("arrays", write(tmp_path / "set.npz", **changes))


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_a_cut_file_is_named(tmp_path, share):
    file = write(tmp_path / "set.npz")
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(HarpError, match=r"set.npz is not a whole .npz file"):
        load("arrays", file)


def test_other_files_are_refused(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "text").write_text("text")
    for name in ("one.npy", "text"):
        with pytest.raises(HarpError, match=r"is not a whole .npz file"):
            load("arrays", tmp_path / name)
