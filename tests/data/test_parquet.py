import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harp.data import load
from harp.errors import HarpError

from .samples import BLUE, RED, parquet_set, png, shard

TRAIN, TEST = "train-00000-of-00001.parquet", "test-00000-of-00001.parquet"


def test_shards_are_read_in_order(tmp_path):
    data = load("parquet", parquet_set(tmp_path / "data").parent)
    assert data.train.images[:, :, 0, 0].tolist() == [list(RED), list(BLUE), list(RED)]
    assert data.train.labels.tolist() == [0, 1, 0]
    assert data.test.labels.tolist() == [1]
    assert (data.classes, data.size, data.flip) == (("red", "blue"), (4, 4), False)


@pytest.mark.parametrize("columns", [("image", "labels"), ("picture", "fine_label")])
def test_columns_have_several_names_and_classes_may_be_numbers(tmp_path, columns):
    for name in (TRAIN, TEST):
        shard(tmp_path / name, [png(5, mode="L")] * 2, [0, 2], columns=columns)
    data = load("parquet", tmp_path)
    assert (data.classes, data.channels) == (("0", "1", "2"), 1)


def test_plain_binary_pictures_are_read(tmp_path):
    for name in (TRAIN, TEST):
        pq.write_table(pa.table({"image": [png(RED)], "label": [0], "other": ["text"]}), tmp_path / name)
    assert len(load("parquet", tmp_path).train) == 1


@pytest.mark.parametrize(
    ("pictures", "labels", "message"),
    [
        ([png(RED), png(RED)[:30]], [0, 1], r"train-00000-of-00001.parquet, row 1 is not a whole picture"),
        ([png(RED), png(RED, size=(4, 5))], [0, 1], r"row 1 is 5x4 pixels, the first picture 4x4"),
        ([png(RED), None], [0, 1], r"row 1 holds no image bytes"),
        ([png(RED), png(RED)], [0, None], r"row 1 has no label"),
        ([png(RED), png(RED)], [0, -1], r"1 of 2 labels are negative; the first is at index 1"),
    ],
)
def test_the_damaged_row_is_named(tmp_path, pictures, labels, message):
    shard(tmp_path / TRAIN, pictures, labels)
    shard(tmp_path / TEST, [png(RED)], [0])
    with pytest.raises(HarpError, match=message):
        load("parquet", tmp_path)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.95])
def test_a_cut_file_is_named(tmp_path, share):
    file = parquet_set(tmp_path) / "train-00001-of-00002.parquet"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(HarpError, match=r"train-00001-of-00002.parquet is not a whole Parquet file"):
        load("parquet", tmp_path)


def test_a_damaged_page_is_named(tmp_path):
    file = parquet_set(tmp_path) / "train-00001-of-00002.parquet"
    data = bytearray(file.read_bytes())
    data[4:60] = b"\xff" * 56
    file.write_bytes(data)
    with pytest.raises(HarpError, match=r"train-00001-of-00002.parquet"):
        load("parquet", tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"img": ["text"], "label": [0]}, "no column of encoded images"),
        ({"a": [b"x"], "b": [b"y"], "label": [0]}, "several columns of encoded images: a, b"),
        ({"img": [b"x"], "label": ["cat"]}, "no whole-number column label"),
        ({"img": [b"x"], "labell": [0]}, "did you mean 'labell'"),
    ],
)
def test_missing_columns_are_told(tmp_path, columns, message):
    for name in (TRAIN, TEST):
        pq.write_table(pa.table(columns), tmp_path / name)
    with pytest.raises(HarpError, match=message):
        load("parquet", tmp_path)


def test_a_path_is_needed():
    with pytest.raises(HarpError, match=r"'parquet' has no default place; set data.path"):
        load("parquet")


def test_without_pyarrow_the_command_is_told(tmp_path, monkeypatch):
    parquet_set(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(HarpError, match=r"needs pyarrow; install it with pip install 'harp-pruning\[images\]'"):
        load("parquet", tmp_path)
