import gzip
from pathlib import Path

import pytest

from harp.data import load
from harp.errors import HarpError

from .samples import RED, archive, png, tar_set

ONE = {"a.png": png(RED), "a.cls": b"0"}


def test_pictures_and_numbers_are_matched_by_name(tmp_path):
    data = load("tar", tar_set(tmp_path))
    assert data.train.images[:, :, 0, 0].tolist() == [[255, 0, 0], [0, 0, 255], [255, 0, 0]]
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 1, 0], [1])
    assert (data.classes, data.flip, data.size) == (("0", "1"), False, (4, 4))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.png": png(RED)}, r"train-0\.tar: the picture a has no \.cls beside it"),
        ({**ONE, "a.jpg": png(RED)}, r"a\.jpg is a second one of its name"),
        ({"a.png": png(RED), "a.cls": b"cat"}, r"the label of a is b'cat'; expected a whole number"),
        ({"a.png": b"text", "a.cls": b"0"}, r"train-0\.tar, picture 0 is not a whole picture"),
        ({"a.txt": b"0"}, r"holds no picture in train-0\.tar"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, members, message):
    archive(tmp_path / "train-0.tar", members)
    archive(tmp_path / "test-0.tar", ONE)
    with pytest.raises(HarpError, match=message):
        load("tar", tmp_path)


def test_files_that_are_not_whole_are_refused(tmp_path: Path):
    archive(tmp_path / "test-0.tar", ONE)
    file = archive(tmp_path / "train-0.tar", {**ONE, "b.cls": b"1", "b.png": png(RED)})
    data = file.read_bytes()
    for length in (700, 1024, 2048, 2100):  # in a member, and between two
        file.write_bytes(data[:length])
        with pytest.raises(HarpError, match=r"train-0\.tar"):
            load("tar", tmp_path)
    file.write_bytes(gzip.compress(data))
    with pytest.raises(HarpError, match=r"train-0\.tar is not a whole tar file, uncompressed"):
        load("tar", tmp_path)


def test_a_shard_that_its_name_tells_of_must_be_there(tmp_path):
    archive(tmp_path / "train-0-of-2.tar", ONE)
    with pytest.raises(HarpError, match=r"lacks shard 1 of its train-\*\.tar"):
        load("tar", tmp_path)
