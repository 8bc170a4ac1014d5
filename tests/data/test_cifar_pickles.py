from pathlib import Path

import numpy as np
import pytest

from harp.data.cifar_pickles import CIFAR10, CIFAR100, find_pickles, read_pickles
from harp.errors import HarpError

from .samples import cifar_pickles, dump


def found(root, form) -> Path:
    folder = find_pickles(root, form)
    assert folder is not None
    return folder


def test_the_five_batches_follow_each_other(tmp_path):
    folder = found(cifar_pickles(tmp_path), CIFAR10)
    train, test, names = read_pickles(folder, CIFAR10)
    assert train.images.shape == (10, 3, 32, 32)
    assert train.images[:, 0, 0, 0].tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert train.labels.tolist() == [0, 1, 0, 2, 0, 3, 0, 4, 0, 5]
    assert (test.images[0, 0, 0, 0].item(), names[9]) == (9, "class 9")


def test_a_row_is_three_planes_of_rows(tmp_path):
    folder = found(cifar_pickles(tmp_path), CIFAR10)
    row = np.zeros((1, 3072), np.uint8)
    row[0, 1024 + 32 * 5 + 7] = 200
    dump(folder / "test_batch", {"data": row, "labels": [3]})
    _, test, _ = read_pickles(folder, CIFAR10)
    assert test.images.nonzero().tolist() == [[0, 1, 5, 7]]


def test_cifar_100_uses_the_fine_labels(tmp_path):
    for name in ("train", "test"):
        pixels = np.zeros((1, 3072), np.uint8)
        dump(tmp_path / name, {"data": pixels, "fine_labels": [42], "coarse_labels": [3]})
    dump(tmp_path / "meta", {"fine_label_names": ["a"] * 100, "coarse_label_names": ["b"] * 20})
    train, _, names = read_pickles(found(tmp_path, CIFAR100), CIFAR100)
    assert (train.labels.tolist(), len(names)) == ([42], 100)


def test_the_folder_is_found_from_within_and_without(tmp_path):
    folder = cifar_pickles(tmp_path) / CIFAR10.folder
    assert find_pickles(tmp_path, CIFAR10) == find_pickles(folder, CIFAR10) == folder
    assert find_pickles(tmp_path, CIFAR100) is None


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"data": np.zeros((2, 3072), np.uint8)}, "data_batch_2 has no entry 'labels'"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, r"shape \(2, 3072\); expected \(1, 3072\)"),
        ({"data": np.zeros((2, 12), np.uint8), "labels": [0, 1]}, r"shape \(2, 12\)"),
        ({"data": [[0], [1]], "labels": [0, 1]}, "shape list"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["cat"]}, "labels that are not whole numbers"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [-1]}, "data_batch_2: 1 of 1 labels are negative"),
    ],
)
def test_a_wrong_batch_is_named(tmp_path, batch, message):
    folder = found(cifar_pickles(tmp_path), CIFAR10)
    dump(folder / "data_batch_2", batch)
    with pytest.raises(HarpError, match=message):
        read_pickles(folder, CIFAR10)


def test_a_missing_batch_is_named(tmp_path):
    folder = found(cifar_pickles(tmp_path), CIFAR10)
    (folder / "data_batch_3").unlink()
    with pytest.raises(HarpError, match=r"no file .*data_batch_3"):
        read_pickles(folder, CIFAR10)
