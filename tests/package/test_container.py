import gzip
import io
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from harp.errors import HarpError
from harp.package.container import HEADER, Contents, load, pack
from tests.package.networks import header_of, sealed

SECTIONS = {"index": b"abc", "float32": bytes(range(8)), "bool": b"\0\1", "manifest": b"manifest", "int64": bytes(16)}


def written(path, data):
    path.write_bytes(data)
    return path


def test_round_trip(tmp_path):
    contents = load(written(tmp_path / "a", pack(SECTIONS)))
    assert contents.faults() == []
    for name, data in SECTIONS.items():
        assert bytes(contents.bytes(name)) == data
        assert contents.spans[name][0] % (8 if name == "int64" else 4 if name == "float32" else 1) == 0
    tensors = contents.arrays()
    assert tensors.keys() == SECTIONS.keys() - {"manifest"}
    assert tensors["float32"].view(np.uint8).tolist() == list(range(8))
    assert tensors["bool"].tolist() == [False, True]


def test_any_safetensors_reader_opens_it(tmp_path):
    path = written(tmp_path / "a.safetensors", pack(SECTIONS))
    tensors = safetensors.torch.load_file(path)
    assert tensors.keys() == SECTIONS.keys() | {"seal"}
    assert (tensors["int64"].dtype, tensors["index"].tolist()) == (torch.int64, list(b"abc"))
    with safetensors.safe_open(path, framework="pt") as file:
        assert file.metadata()["format"] == "harp.package"


def test_the_order_of_sections_and_empty_ones_change_nothing():
    assert pack(SECTIONS) == pack(dict(reversed(SECTIONS.items())) | {"int8": b""})


def test_the_seal_names_the_content():
    contents = Contents.of(pack(SECTIONS))
    assert contents.seal == bytes(contents.bytes("seal")).hex()
    assert contents.seal != Contents.of(pack(SECTIONS | {"index": b"abd"})).seal


def test_every_damaged_section_is_named():
    data = bytearray(pack(SECTIONS))
    contents = Contents.of(bytes(data))
    for name in ("index", "int64"):
        data[contents.spans[name][0]] ^= 1
    faults = Contents.of(bytes(data)).faults()
    assert faults == [f"it is damaged: the section {name} does not match its checksum" for name in ("int64", "index")]


@pytest.mark.parametrize(("version", "right"), [("1.0", True), ("1.7", True), ("1.12", True), ("2.0", False)])
def test_major_versions_decide(version, right):
    sections = {"manifest": b"m"}
    data = sealed(header_of(sections, version), sections)
    if right:
        assert Contents.of(data).faults() == []
    else:
        with pytest.raises(HarpError, match=r"its format version is 2.0, and this harp reads 1.x; update harp"):
            Contents.of(data)


@pytest.mark.parametrize("version", ["", "1", "one", "1.0.0", "-1.0", "1.0 ", "１.0", "1." + "9" * 99, None, 1.0])
def test_versions_that_are_none(version):
    sections = {"manifest": b"m"}
    with pytest.raises(HarpError, match="its format version is"):
        Contents.of(sealed(header_of(sections, version), sections))


def section(name, **changes):
    def change(header):
        header[name].update(changes)

    return change


def metadata(**changes):
    return section("__metadata__", **changes)


def moved(header):
    header["seal"] = header.pop("seal")
    header["float32"] = header.pop("float32")


def unaligned(header):
    header["manifest"].update(data_offsets=[0, 1])
    header["float32"].update(data_offsets=[1, 9])
    moved(header)
    header["seal"] = header.pop("seal")


def longer(header):
    del header["manifest"]
    header["seal"].update(shape=[33], data_offsets=[8, 41])


HEADERS = {
    "no seal": (lambda header: header.pop("seal"), "is it cut short"),
    "no manifest": (lambda header: header.pop("manifest"), "does not lie where it should"),
    "seal not last": (moved, "does not lie where it should"),
    "unknown section": (lambda header: header.update(code=header["seal"]), "unknown section, 'code'"),
    "negative offset": (section("float32", data_offsets=[-8, 8]), "offsets of float32: expected integers from 0"),
    "overlap": (section("manifest", data_offsets=[0, 1]), "manifest does not lie where it should"),
    "reversed": (section("float32", data_offsets=[8, 0]), "does not lie where it should"),
    "beyond the file": (section("seal", data_offsets=[9, 2**62 + 9]), "expected integers from 0"),
    "almost beyond": (section("seal", data_offsets=[9, 400], shape=[391]), "is it cut short"),
    "short seal": (section("seal", data_offsets=[9, 40], shape=[31]), "is it cut short"),
    "long seal": (longer, "not a seal of 32 bytes"),
    "three offsets": (section("float32", data_offsets=[0, 8, 9]), "does not lie where it should"),
    "not aligned": (unaligned, "multiple of its numbers' size"),
    "offsets as text": (section("float32", data_offsets=["0", "8"]), "expected integers from 0"),
    "offsets as floats": (section("float32", data_offsets=[0.0, 8.0]), "expected integers from 0"),
    "one offset": (section("float32", data_offsets=[0]), "does not lie where it should"),
    "no offsets": (section("float32", data_offsets=[]), "does not lie where it should"),
    "absurd shape": (section("float32", shape=[10**12]), "is not .* numbers long"),
    "two axes": (section("float32", shape=[1, 2]), "is not .* numbers long"),
    "wrong dtype": (section("float32", dtype="I32"), "of the wrong kind"),
    "more keys": (section("float32", offset=3), "unknown key 'offset'"),
    "no object": (lambda header: header.update(float32=[0, 8]), "expected an object"),
    "no digest": (lambda header: header["__metadata__"].pop("sha256.float32"), "one checksum for each section"),
    "wrong digest": (metadata(**{"sha256.float32": "0" * 64}), "float32 does not match its checksum"),
    "digest of none": (metadata(**{"sha256.seal": "0" * 64}), "one checksum for each section"),
    "digest a number": (metadata(**{"sha256.float32": 7}), "float32 does not match its checksum"),
    "other format": (metadata(format="pt"), "no harp package but a safetensors file of another kind"),
    "no metadata": (lambda header: header.pop("__metadata__"), "safetensors file of another kind"),
    "metadata no object": (lambda header: header.update(__metadata__=[]), "safetensors file of another kind"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_hostile_headers_under_a_right_seal(case):
    change, message = HEADERS[case]
    sections = {"float32": bytes(8), "manifest": b"m"}
    header = header_of(sections)
    change(header)
    with pytest.raises(HarpError, match=message):
        raise HarpError("; ".join(Contents.of(sealed(header, sections)).faults()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{" * 1000, "not strict JSON"),
        (b'{"a":' * 8000, "nested too deep"),
        (b'{"seal": {}, "seal": {}}', "a key twice"),
        (b'{"__metadata__": NaN}', "no JSON number"),
        (b"{}", "safetensors file of another kind"),
        (b"{" + b" " * HEADER, "safetensors file of another kind"),
        (b"[]", "no file harp knows"),
    ],
)
def test_headers_that_are_none(text, message):
    with pytest.raises(HarpError, match=message):
        Contents.of(sealed(text, {}))


@pytest.mark.parametrize("length", [0, 1, 2**16 + 1, 2**31, 2**62, 2**64 - 1])
def test_header_lengths_that_are_wrong(length):
    with pytest.raises(HarpError):
        Contents.of(length.to_bytes(8, "little") + pack(SECTIONS)[8:])


def test_booleans_are_zero_or_one():
    with pytest.raises(HarpError, match="bytes other than 0 and 1"):
        Contents.of(pack({"bool": b"\0\2", "manifest": b"m"})).arrays()


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.pkl", b"x")
    return file.getvalue()


def tarred():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("data"), io.BytesIO())
    return file.getvalue()


FOREIGN = {
    "an empty file": b"",
    "an HTML page": b"\n<!DOCTYPE html><html></html>",
    "a zip archive": zipped(),
    "a pickle": pickle.dumps({"weight": [1, 2]}),
    "a tar archive": tarred(),
    "a gzip archive": gzip.compress(b"x"),
    "a safetensors file of another kind": safetensors.torch.save({"weight": torch.ones(99)}),
    "a safetensors file whose end is missing": safetensors.torch.save({"weight": torch.ones(99)})[:60],
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "a NumPy array": b"\x93NUMPY\x01\x00",
    "JSON": b' {"a": 1}',
    "text": b"nothing in particular\n",
    "no file harp knows": bytes(range(256)) * 4,
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files_are_named(kind, tmp_path):
    with pytest.raises(HarpError, match=f"it is no harp package but {kind}"):
        load(written(tmp_path / "a", FOREIGN[kind]))


def test_what_is_no_file(tmp_path):
    with pytest.raises(HarpError, match="it is a folder"):
        load(tmp_path)
    with pytest.raises(HarpError, match="there is no such file"):
        load(tmp_path / "a")
    with pytest.raises(HarpError, match="cannot be read"):
        load(tmp_path / ("a" * 300))


def test_a_large_foreign_file_is_not_read(tmp_path):
    # A header of 100 bytes and a hole of 10 TB: reading it would end the test.
    with open(tmp_path / "a", "wb") as file:
        file.write(safetensors.torch.save({"weight": torch.ones(99)})[:104])
        file.truncate(10**13)
    with pytest.raises(HarpError, match="safetensors file of another kind"):
        load(tmp_path / "a")
