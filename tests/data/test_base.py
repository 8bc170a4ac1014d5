import math
from pathlib import Path

import pytest
import torch

from harp.data.base import Dataset, Images, required, unknown
from harp.errors import HarpError

from .samples import numbered


def floats(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None, None, None]


def labels(n: int) -> torch.Tensor:
    return torch.zeros(n, dtype=torch.int64)


def test_images_have_a_length_and_parts():
    part = numbered(5).take(torch.tensor([4, 1]))
    assert len(part) == 2
    assert part.images[:, 0, 0, 0].tolist() == [4, 1]
    assert part.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (floats(0, math.nan, math.nan), r"2 of 3 images hold NaN or infinity; the first is at index 1"),
        (floats(0, 0, math.inf), r"1 of 3 images hold NaN or infinity; the first is at index 2"),
        (floats(-0.1, 0, 1.5), r"2 of 3 float images hold values outside \[0, 1\]; the first is at index 0"),
        (floats(0, 1, 0).double(), r"images are torch\.float64; expected uint8, or float32"),
        (torch.zeros(3, 4, 4), r"shape \(3, 4, 4\); expected \[n, c, h, w\]"),
        (torch.zeros(3, 1, 0, 4), r"no images: the shape is \(3, 1, 0, 4\)"),
    ],
)
def test_wrong_images_are_refused(images, message):
    with pytest.raises(HarpError, match=message):
        Images(images, labels(3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.tensor([0, -1, -1]), "2 of 3 labels are negative; the first is at index 1"),
        (torch.zeros(3), "labels are torch.float32; expected int64"),
        (labels(2), r"labels have shape \(2,\); expected \[3\]"),
    ],
)
def test_wrong_labels_are_refused(wrong, message):
    with pytest.raises(HarpError, match=message):
        Images(floats(0, 0.5, 1), wrong)


def test_an_empty_set_is_refused():
    with pytest.raises(HarpError, match="no images"):
        Images(torch.zeros(0, 1, 4, 4), labels(0))


def test_a_data_set_knows_its_shape():
    data = unknown("some", numbered(3, channels=3, side=16), numbered(2, channels=3, side=16), ("a", "b"))
    assert (data.channels, data.size, data.flip, data.pad) == (3, (16, 16), False, 2)


def test_parts_of_different_shape_are_refused():
    with pytest.raises(HarpError, match=r"some: training images are \(1, 4, 4\), test images \(3, 4, 4\)"):
        unknown("some", numbered(3), numbered(3, channels=3), ("a", "b"))


def test_a_label_without_a_class_is_refused():
    with pytest.raises(HarpError, match=r"test part: 1 of 3 labels are not below the 2 classes; .* index 2"):
        unknown("some", numbered(3), numbered(3, classes=3), ("a", "b"))


def test_a_negative_pad_is_refused():
    with pytest.raises(HarpError, match="pad is -1"):
        Dataset("some", numbered(2), numbered(2), ("a", "b"), flip=False, pad=-1)


def test_the_fingerprint_follows_every_tensor():
    train, test = numbered(4), numbered(2)
    one = unknown("one", train, test, ("a", "b")).fingerprint
    assert len(one) == 64
    assert one == unknown("two", numbered(4), numbered(2), ("x", "y")).fingerprint
    others = [
        (Images(train.images + 1, train.labels), test),
        (Images(train.images, 1 - train.labels), test),
        (Images(train.images / 255, train.labels), test),
        (train, Images(test.images, 1 - test.labels)),
        (test, train),
    ]
    assert one not in {unknown("other", *parts, ("a", "b")).fingerprint for parts in others}


def test_a_needed_path_is_there(tmp_path):
    assert required(tmp_path, "folder", "a folder") == tmp_path
    with pytest.raises(HarpError, match=r"set data.path to a folder"):
        required(None, "folder", "a folder")
    with pytest.raises(HarpError, match="does not exist; expected a folder"):
        required(tmp_path / Path("missing"), "folder", "a folder")
