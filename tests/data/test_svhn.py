import numpy as np
import pytest
import torch
from scipy.io import savemat

from harp.data import load
from harp.errors import HarpError

from .samples import BLUE, RED, png, shard, svhn_files

TEST = "test_32x32.mat"


def test_the_published_files_are_read(tmp_path):
    data = load("svhn", svhn_files(tmp_path))
    assert (data.name, data.flip, data.pad, data.size, data.channels) == ("svhn", False, 4, (32, 32), 3)
    assert data.classes == tuple("0123456789")
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([1, 0, 9], [0, 2])
    assert data.train.images.dtype == torch.uint8
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert (data.train.images == 200).nonzero().tolist() == [[n, 1, 5, 7] for n in range(3)]


def test_a_note_tells_how_unequal_the_classes_are(tmp_path):
    (note,) = load("svhn", svhn_files(tmp_path, test=(10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9))).notes
    assert note.startswith(
        "svhn's classes are unequal, 1 to 2 test images each: read the rows in which classes count alike"
    )


def test_parquet_is_read_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HARP_DATA", str(tmp_path))
    for part in ("train", "test"):
        shard(tmp_path / "svhn" / "cropped_digits" / f"{part}-0.parquet", [png(RED), png(BLUE)], [0, 9])
    data = load("svhn")
    assert (data.train.labels.tolist(), data.classes, data.flip, data.pad) == ([0, 9], tuple("0123456789"), False, 4)
    assert len(data.notes) == 1


def test_other_places_and_classes_are_refused(tmp_path):
    with pytest.raises(HarpError, match=r"holds neither form; expected a folder with train_32x32.mat and test_32x32"):
        load("svhn", tmp_path)
    for part in ("train", "test"):
        shard(tmp_path / f"{part}-0.parquet", [png(RED), png(BLUE)], [0, 1], ["red", "blue"])
    with pytest.raises(HarpError, match="has the classes red, blue; expected the digits"):
        load("svhn", tmp_path)


PIXELS, LABELS = np.zeros((32, 32, 3, 2), np.uint8), np.array([[1], [10]], np.uint8)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": PIXELS, "label": LABELS}, "has no array 'y'; there are: X, label"),
        ({"X": PIXELS.transpose(3, 2, 0, 1), "y": LABELS}, r"X is uint8 \(2, 3, 32, 32\); expected uint8 \(32, 32, 3"),
        ({"X": PIXELS / 255, "y": LABELS}, r"X is float64 \(32, 32, 3, 2\); expected uint8"),
        ({"X": PIXELS, "y": LABELS[:1]}, r"y is uint8 \(1, 1\); expected numbers \(2, 1\), one per image"),
        ({"X": PIXELS, "y": np.array([["a"], ["b"]])}, "expected numbers"),
        ({"X": PIXELS, "y": LABELS - 1}, "y goes from 0 to 9; expected 1 to 10, which is digit 0"),
        ({"X": PIXELS, "y": LABELS + 0.5}, "y goes from 1.5 to 10.5; expected 1 to 10"),
    ],
)
def test_arrays_of_another_form_are_refused(tmp_path, arrays, message):
    savemat(svhn_files(tmp_path) / TEST, arrays)
    with pytest.raises(HarpError, match=rf"test_32x32\.mat.*{message}"):
        load("svhn", tmp_path)


def test_a_missing_part_is_named(tmp_path):
    (svhn_files(tmp_path) / TEST).unlink()
    with pytest.raises(HarpError, match=r"no file .*test_32x32\.mat; expected both"):
        load("svhn", tmp_path)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.95])
def test_a_cut_file_is_named(tmp_path, share):
    file = svhn_files(tmp_path) / TEST
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(HarpError, match=r"test_32x32\.mat (is not a whole MATLAB file: |has no array)"):
        load("svhn", tmp_path)


@pytest.mark.parametrize("place", range(128, 208, 8))
def test_a_damaged_file_is_one_error(tmp_path, place):
    file = svhn_files(tmp_path) / TEST
    data = bytearray(file.read_bytes())
    data[place : place + 8] = b"\xff" * 8
    file.write_bytes(data)
    with pytest.raises(HarpError, match=r"test_32x32\.mat"):
        load("svhn", tmp_path)
