from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from harp.data import load
from harp.errors import HarpError


def test_the_digits_are_scikit_learns():
    data = load("digits")
    assert (len(data.train), len(data.test), data.channels, data.size) == (1348, 449, 1, (8, 8))
    assert (data.flip, data.pad, data.classes[3]) == (False, 1, "3")
    total = int(data.train.images.sum()) + int(data.test.images.sum())
    assert total == int((load_digits().images * 255 / 16).round().sum())
    assert data.train.images.max() == 255


def test_the_test_part_is_a_quarter_of_each_class():
    data = load("digits")
    test, train = data.test.labels.bincount(), data.train.labels.bincount()
    assert ((test - (test + train) / 4).abs() < 1).all()
    assert torch.equal(test + train, torch.tensor(load_digits().target).bincount())


def test_the_split_never_moves():
    # A new value here means that results on digits can no longer be compared with older ones.
    assert load("digits").fingerprint == "4f1e799966d3f9bcbd4e94722a512ab16040de3fa532ffa33f2fff70806c811e"


def test_a_path_is_refused(tmp_path):
    with pytest.raises(HarpError, match=r"takes no data.path"):
        load("digits", Path(tmp_path))
