"""Pictures that stay in their files, in all three forms: files, rows, members of tar files."""

import hashlib
import os
from pathlib import Path

import pytest
import torch

from harp.data import Reading, Stored, feed, load
from harp.data.folder import folder
from harp.errors import HarpError

from .samples import ALWAYS, BLUE, RED, archive, jpeg, parquet_set, picture_folder, png, shard, tar_set, train_of


def pixels(images: torch.Tensor) -> list[list[int]]:
    return images[:, :, 0, 0].tolist()


@pytest.mark.parametrize(("name", "make"), [("parquet", parquet_set), ("tar", tar_set)])
def test_shards_are_read_by_row_as_they_are_held(tmp_path, name, make):
    make(tmp_path)
    held, stored = (load(name, tmp_path, reading=Reading(stream=how)) for how in ("never", "always"))
    assert isinstance(stored.train, Stored)
    for before, now in ((held.train, stored.train), (held.test, stored.test)):
        assert torch.equal(now.images, before.images)
        assert torch.equal(now.labels, before.labels)
    assert pixels(stored.train.take(torch.tensor([1, 2, 1])).images) == [list(BLUE), list(RED), list(BLUE)]
    assert held.classes == stored.classes
    assert "known by their names and sizes" in stored.notes[-1]
    assert held.notes == ()


def test_rows_of_several_groups_are_found(tmp_path):
    pictures = [png((value, 0, 0)) for value in range(7)]
    shard(tmp_path / "train-0.parquet", [*pictures], [value % 2 for value in range(7)])
    shard(tmp_path / "test-0.parquet", [png(RED)], [1])
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "train-0.parquet")
    pq.write_table(table, tmp_path / "train-0.parquet", row_group_size=3)
    train = load("parquet", tmp_path, reading=Reading(stream="always")).train
    order = torch.tensor([6, 0, 5, 3, 2, 4, 1])
    assert [red for red, _, _ in pixels(train.take(order).images)] == order.tolist()


def test_images_are_resized_alike_held_or_not(tmp_path):
    picture_folder(tmp_path)
    for reading in (ALWAYS, Reading(size=(6, 6), stream="always", centre=0.5), Reading(size=(5, 12), stream="always")):
        held = load("folder", tmp_path, reading=Reading(reading.size, reading.centre, "never"))
        stored = load("folder", tmp_path, reading=reading)
        assert stored.size == held.size == reading.size
        assert torch.equal(stored.train.images, held.train.images)
        assert torch.equal(stored.train.labels, held.train.labels)


def test_what_fits_is_held_and_what_does_not_is_not(tmp_path, monkeypatch):
    picture_folder(tmp_path)
    size = 12 * 3 * 6 * 6
    for memory, kind in ((4 * size, False), (4 * size - 4, True)):
        monkeypatch.setattr("harp.data.reading.memory", lambda memory=memory: memory)
        assert isinstance(load("folder", tmp_path, reading=Reading(size=(6, 6))).train, Stored) == kind


def test_grey_pictures_are_streamed_in_colour(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part / "a").mkdir(parents=True)
        (tmp_path / part / "a" / "1.png").write_bytes(png(7, mode="L"))
    assert load("folder", tmp_path).channels == 1
    streamed = load("folder", tmp_path, reading=Reading(stream="always"))
    assert (streamed.channels, pixels(streamed.test.images)) == (3, [[7, 7, 7]])


def test_fingerprints_know_names_sizes_labels_and_how_pictures_are_resized(tmp_path):
    def fingerprint(**changed) -> str:
        return load("folder", tmp_path, reading=Reading(**{"size": (6, 6), "stream": "always", **changed})).fingerprint

    picture_folder(tmp_path)
    file = tmp_path / "train" / "a" / "0.jpg"
    seen = [fingerprint(), fingerprint(size=(6, 7)), fingerprint(centre=0.5)]
    data = file.read_bytes()
    file.write_bytes(data)  # a copy, made later
    assert fingerprint() == seen[0]
    file.write_bytes(data + b"\0")
    seen.append(fingerprint())
    file.rename(file.with_name("zero.jpg"))
    seen.append(fingerprint())
    assert len(set(seen)) == 5


@pytest.mark.parametrize(("name", "make"), [("parquet", parquet_set), ("tar", tar_set)])
def test_fingerprints_of_shards_know_their_tables(tmp_path, name, make):
    def fingerprint(root: Path) -> str:
        return load(name, root, reading=Reading(stream="always")).fingerprint

    first, again = fingerprint(make(tmp_path / "one")), fingerprint(make(tmp_path / "two"))
    assert first == again
    assert len(hashlib.sha256().hexdigest()) == len(first)
    if name == "tar":
        archive(tmp_path / "two" / "test-000000.tar", {"x/d.png": png(BLUE), "x/d.cls": b"0"})
    else:
        shard(tmp_path / "two" / "test-00000-of-00001.parquet", [png(BLUE)], [0], ["red", "blue"])
    assert fingerprint(tmp_path / "two") != first


def batch(root: Path, name: str = "folder", reading: Reading = ALWAYS) -> None:
    train = load(name, root, reading=reading).train
    list(feed(train, len(train), 0, device="cpu").once())


def test_what_changes_while_it_is_read_is_named(tmp_path):
    picture_folder(tmp_path)
    train = train_of("folder", tmp_path)
    file = tmp_path / "train" / "b" / "3.jpg"
    file.write_bytes(jpeg(99, (30, 30)))
    with pytest.raises(HarpError, match=r"b/3\.jpg has changed since the set was opened"):
        train.read(torch.arange(len(train)))
    file.unlink()
    with pytest.raises(HarpError, match=r"b/3\.jpg, which was there .* cannot be read: No such file"):
        train.read(torch.arange(len(train)))


@pytest.mark.parametrize(("name", "make"), [("parquet", parquet_set), ("tar", tar_set)])
def test_a_shard_that_changes_is_named(tmp_path, name, make):
    train = train_of(name, make(tmp_path), Reading(stream="always"))
    file = sorted(tmp_path.glob("train-*"))[1]
    os.utime(file, ns=(1, 1))
    with pytest.raises(HarpError, match=rf"{file.name} has changed"):
        train.read(torch.arange(len(train)))


def test_a_damaged_picture_is_named_with_its_place(tmp_path):
    picture_folder(tmp_path / "folder")
    (tmp_path / "folder" / "train" / "b" / "3.jpg").write_bytes(jpeg(3, (70, 90))[:-900])
    with pytest.raises(HarpError, match=r"train/b/3\.jpg is not a whole picture"):
        batch(tmp_path / "folder")
    root = parquet_set(tmp_path / "parquet")
    shard(root / "train-00001-of-00002.parquet", [png(RED), b"text"], [0, 0], ["red", "blue"])
    with pytest.raises(HarpError, match=r"train-00001-of-00002\.parquet, row 1 is not a whole picture"):
        batch(root, "parquet")
    root = tar_set(tmp_path / "tar")
    archive(root / "train-000001.tar", {"c.cls": b"0", "c.png": png(RED), "d.cls": b"1", "d.png": b"text"})
    with pytest.raises(HarpError, match=r"train-000001\.tar, picture 1 is not a whole picture"):
        batch(root, "tar")


def test_unequal_sizes_need_a_size(tmp_path):
    picture_folder(tmp_path)
    (tmp_path / "test" / "b" / "1.png").write_bytes(png(BLUE, size=(6, 4)))
    (tmp_path / "test" / "a" / "1.png").write_bytes(png(BLUE, size=(6, 4)))
    with pytest.raises(
        HarpError, match=r"2\.jpg is 20x9 pixels, the first picture 4x6; expected one size, or data\.size"
    ):
        batch(tmp_path, reading=Reading(stream="always"))


def test_row_groups_that_would_not_fit_are_refused(tmp_path, monkeypatch):
    parquet_set(tmp_path)
    monkeypatch.setattr("harp.data.rows.LARGEST", 10)
    with pytest.raises(HarpError, match=r"row group 0 holds .* MB of pictures.*row_group_size=100"):
        load("parquet", tmp_path, reading=Reading(stream="always"))


@pytest.mark.parametrize("asked", [{"size": (8, 8)}, {"stream": "always"}, {"workers": 2}])
def test_a_set_of_tensors_refuses_what_it_cannot_follow(asked):
    (name,) = asked
    with pytest.raises(
        HarpError, match=f"^data.{name}: digits comes as tensors, not as pictures to read; leave it out"
    ):
        load("digits", reading=Reading(**asked))


def test_a_folder_is_the_same_set_by_its_own_function(tmp_path):
    picture_folder(tmp_path)
    assert folder(tmp_path, ALWAYS).fingerprint == load("folder", tmp_path, reading=ALWAYS).fingerprint
