import pytest

from harp.bench.memory import RESET, memory
from harp.bench.subject import Subject
from harp.errors import HarpError
from harp.export import pack
from tests.tiny import tiny


def subject(folder):
    return Subject(tiny(device="cpu", threads=1).model_dump(mode="json"), None, folder)


@pytest.mark.skipif(not RESET.exists(), reason="the system keeps no count of memory in /proc")
@pytest.mark.slow
def test_memory_is_what_a_fresh_process_needs_more(tmp_path):
    known = subject(tmp_path)
    pack(known.model, known.images(2), tmp_path / "package.safetensors")
    found = memory("harp", known, 1, 256)
    assert found is not None
    images = 256 * 4 * 8 * 8 * 4  # bytes of the first layer's answers, which are held at some moment
    assert images < found["peak"] < 200e6
    assert 0 <= found["after"] <= found["peak"]


@pytest.mark.skipif(not RESET.exists(), reason="the system keeps no count of memory in /proc")
def test_a_process_that_fails_says_why(tmp_path):
    with pytest.raises(HarpError, match=r"measuring the memory of harp failed: .*gone"):
        memory("harp", Subject(subject(tmp_path).settings, tmp_path / "gone.safetensors", tmp_path), 1, 1)


def test_where_nothing_is_counted_there_is_no_number(tmp_path, monkeypatch):
    monkeypatch.setattr("harp.bench.memory.RESET", tmp_path / "gone")
    assert memory("harp", subject(tmp_path), 1, 1) is None
