"""Small files that claim, or unpack to, far too much: refused in a sentence, before memory is taken."""

import io
import pickle
import resource
import struct
import tarfile
import zipfile
import zlib
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from harp.data import load
from harp.data.pictures import FORMATS, decode
from harp.data.safe_pickle import read_pickle
from harp.errors import HarpError

from .samples import RED, png, shard, svhn_files

MOST = 200 << 20  # bytes that a refusal may take beside what is there already


@contextmanager
def says(match):
    """A refusal in these words, which does not raise the most memory that this process ever had by more than `MOST`."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(HarpError, match=match):
        yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST


def refused(picture, message):
    with says(message):
        decode([("one", picture)])


def test_postscript_is_handed_to_nobody(monkeypatch):
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), RED).save(stream, "EPS")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("a program was started"))
    refused(stream.getvalue(), f"one is not a whole picture: it is none of {', '.join(FORMATS)}")


@pytest.mark.parametrize("kind", ["ICO", "TGA", "PCX", "DDS", "SGI", "JPEG2000"])
def test_pillows_other_formats_are_not_read(kind):
    refused(png(RED, size=(16, 16), kind=kind), "it is none of PNG, JPEG")


@pytest.mark.parametrize("kind", FORMATS)
def test_every_kind_that_is_named_is_read(kind):
    assert decode([("one", png(RED, size=(8, 8), kind=kind))]).shape == (1, 3, 8, 8)


def sized_png(width, height, *chunks):
    head = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    parts = [head, *chunks, (b"IDAT", zlib.compress(b"\0" * 10_000)), (b"IEND", b"")]
    body = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def sized_gif(side):
    data = bytearray(png(1, mode="P", kind="GIF"))
    data[6:10] = struct.pack("<HH", side, side)
    return bytes(data)


def sized_tiff(side):
    data = bytearray(png(RED, kind="TIFF"))
    first = struct.unpack_from("<I", data, 4)[0]
    for place in range(first + 2, first + 26, 12):
        if struct.unpack_from("<H", data, place)[0] in (256, 257):
            struct.pack_into("<HII", data, place + 2, 4, 1, side)
    return bytes(data)


def sized_jpeg(side):
    data = bytearray(png(RED, size=(64, 64), kind="JPEG"))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", side, side)
    return bytes(data)


@pytest.mark.parametrize(
    "picture",
    [
        sized_png(9_000, 9_000),
        sized_png(2**31 - 1, 2**31 - 1),
        sized_gif(9_000),
        sized_tiff(9_000),
        sized_jpeg(9_000),
        b"P6 9000 9000 255\n" + b"\0" * 100,
        png(RED, size=(5_000, 5_000), kind="WEBP"),
        png(RED, size=(5_000, 5_000)),
    ],
)
def test_a_small_file_is_no_large_picture(picture):
    refused(
        picture, r"one (says that it is \d+x\d+ pixels, in .* bytes; expected at most|is not a whole picture: Image)"
    )


def test_a_text_that_unpacks_to_much_is_no_part_of_a_picture():
    bomb = b"Comment\0\0" + zlib.compress(b"\0" * (100 << 20))
    with says("one is not a whole picture"):
        decode([("one", sized_png(4, 4, *[(b"zTXt", bomb)] * 100))])


def test_a_file_of_a_gigabyte_is_no_picture(tmp_path):
    with open(tmp_path / "a.png", "wb") as file:
        file.truncate(1 << 30)
    with says("1,073,741,824 bytes; expected a picture of at most"):
        decode([("one", tmp_path / "a.png")])


def test_archives_of_arrays_that_unpack_to_much(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("train_images", "train_labels", "test_images", "test_labels"):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(
                    member, {"descr": "|u1", "fortran_order": False, "shape": (70 << 20,)}
                )
                for _ in range(70):
                    member.write(bytes(1 << 20))
    with pytest.raises(
        HarpError, match=r"train_images\.npy would unpack .* bytes to 73,.*; expected at most 100 to one"
    ):
        load("arrays", tmp_path / "set.npz")


def test_an_array_whose_header_claims_more_than_there_is(tmp_path):
    stream = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (1 << 50,)}
    np.lib.format.write_array_header_1_0(stream, header)
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        for name in ("train_images", "train_labels", "test_images", "test_labels"):
            archive.writestr(f"{name}.npy", stream.getvalue())
    with says(r"is not a whole \.npz file"):
        load("arrays", tmp_path / "set.npz")


def test_objects_in_an_array_are_not_loaded(tmp_path):
    names = ("train_images", "train_labels", "test_images", "test_labels")
    np.savez(tmp_path / "set.npz", **{name: np.array([print], object) for name in names})  # type: ignore[arg-type]
    with says("Object arrays cannot be loaded"):
        load("arrays", tmp_path / "set.npz")


@pytest.mark.parametrize(
    "code",
    [
        b"\x80\x02}r\xff\xff\xff\x7f.",  # the memo's entry number 2 ** 31 - 1
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 45) + b"x.",  # so many bytes follow
        b"\x80\x04}(" + b")" + b"2\x86" * 60 + b"K\x01u.",  # a key of 2 ** 60 empty tuples
        b"\x80\x04}" + b")" + b"2\x86" * 60 + b"K\x01s.",
        b"\x80\x04(" + b")" + b"2\x86" * 60 + b"K\x01d.",
        b"\x80\x04\x8f(" + b")" + b"2\x86" * 60 + b"\x90.",  # a set of them
    ],
)
def test_pickles_that_ask_for_much_in_a_few_bytes(tmp_path, code):
    (tmp_path / "a").write_bytes(code)
    if code[3:4] == b"r":
        assert read_pickle(tmp_path / "a") == {}
        return
    with says("a is not a whole pickle"):
        read_pickle(tmp_path / "a")


def test_plain_dictionaries_are_read_as_ever(tmp_path):
    value = {"labels": [1, 2], b"data": b"x", 3: {"a": (1, (2, 3))}}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "a").write_bytes(pickle.dumps(value, protocol))
        assert read_pickle(tmp_path / "a")["labels"] == [1, 2]


@pytest.mark.parametrize("label", [1 << 40, (1 << 63) - 1])
def test_one_label_far_off_makes_no_table_of_that_length(tmp_path, label):
    for part in ("train", "test"):
        shard(tmp_path / f"{part}-0.parquet", [png(RED)] * 2, [0, label])
    with says("classes would be made of 2"):
        load("parquet", tmp_path)
    assert len(load("parquet", tmp_path, relabel=True).classes) == 2
    for part in ("train", "test"):
        shard(tmp_path / f"{part}-0.parquet", [png(RED, size=(32, 32))] * 2, [0, label])
    with says("1 of 2 labels are not below the 10 classes"):
        load("svhn", tmp_path)


def test_a_label_of_more_than_64_bits_is_named(tmp_path):
    table = pa.table({"img": pa.array([png(RED)], pa.binary()), "label": pa.array([1 << 63], pa.uint64())})
    for part in ("train", "test"):
        pq.write_table(table, tmp_path / f"{part}-0.parquet")
    with says(r"row 0 has the label 9223372036854775808; expected a whole number of 64 bits"):
        load("parquet", tmp_path)


def test_a_matlab_file_that_unpacks_to_much(tmp_path):
    svhn_files(tmp_path)
    packed = zlib.compress(struct.pack("<II", 14, 100 << 20) + bytes(100 << 20))
    head = (tmp_path / "train_32x32.mat").read_bytes()[:128]
    (tmp_path / "train_32x32.mat").write_bytes(head + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(
        HarpError, match=r"train_32x32\.mat would unpack .* bytes to 67,.*; expected at most 100 to one"
    ):
        load("svhn", tmp_path)


def test_parquet_files_of_more_rows_than_bytes_or_that_unpack_to_much(tmp_path):
    rows = 2_000_000
    dictionary = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([png(RED)], pa.binary()))
    zeros = pa.array(np.zeros(rows, np.int64))
    pq.write_table(pa.table({"img": dictionary, "label": zeros}), tmp_path / "train-0.parquet")
    with says(r"says that it has 2,000,000 rows, in .* bytes; expected"):
        load("parquet", tmp_path_with_test(tmp_path))
    big = pa.table({"img": pa.array([bytes(70 << 20)], pa.binary()), "label": pa.array([0])})
    pq.write_table(big, tmp_path / "train-0.parquet", compression="zstd", use_dictionary=False)
    with says(r"column img would unpack .* bytes to 73,.*; expected at most 100 to one"):
        load("parquet", tmp_path)


def tmp_path_with_test(folder):
    shard(folder / "test-0.parquet", [png(RED)], [0])
    return folder


@pytest.mark.parametrize("size", [100_000, 1 << 40])
@pytest.mark.parametrize("suffix", ["png", "cls"])
def test_a_member_of_a_tar_file_that_is_said_to_be_longer_than_the_file(tmp_path, size, suffix):
    for part in ("train", "test"):
        with tarfile.open(tmp_path / f"{part}-0.tar", "w") as archive:
            for kind, data in (
                {"cls": b"0", "png": png(RED)} if suffix == "png" else {"png": png(RED), "cls": b"0"}
            ).items():
                member = tarfile.TarInfo(f"a.{kind}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    damaged = bytearray((tmp_path / "train-0.tar").read_bytes())
    place = damaged.index(f"a.{suffix}".encode())
    damaged[place + 124 : place + 136] = b"\x80" + size.to_bytes(11, "big")
    damaged[place + 148 : place + 156] = b" " * 8
    damaged[place + 148 : place + 156] = b"%06o\0 " % sum(damaged[place : place + 512])
    (tmp_path / "train-0.tar").write_bytes(damaged)
    with says(r"train-0\.tar"):
        load("tar", tmp_path)
