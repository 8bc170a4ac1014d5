"""What is read of a processor, from what Linux says of several."""

import platform
import sys

import pytest

from harp import processor

ICE_LAKE = "avx2 fma f16c bmi1 bmi2 movbe abm avx512f avx512bw avx512cd avx512dq avx512vl avx512_vnni"
SAPPHIRE = f"{ICE_LAKE} avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8"


@pytest.fixture
def said(monkeypatch, tmp_path):
    def say(text: str, machine: str = "x86_64") -> dict[str, bool]:
        monkeypatch.setattr(processor, "INFO", tmp_path / "cpuinfo")
        monkeypatch.setattr(platform, "machine", lambda: machine)
        monkeypatch.setattr(sys, "platform", "linux")
        (tmp_path / "cpuinfo").write_text(text)
        processor.features.cache_clear()
        return processor.features()

    yield say
    processor.features.cache_clear()


def info(flags: str, name: str = "Some Maker 9000") -> str:
    first = f"processor\t: 0\nmodel name\t: {name}\nflags\t\t: {flags}\n\n"
    return f"{first}processor\t: 1\nmodel name\t: other\nflags\t\t: amx_tile\n"


@pytest.mark.parametrize(
    ("flags", "there"),
    [
        ("sse sse2", set()),
        ("avx2 fma f16c bmi1 bmi2 movbe abm", {"AVX2"}),
        ("avx2 fma", set()),
        ("avx2 fma f16c bmi1 bmi2 movbe abm avx_vnni", {"AVX2", "VNNI"}),
        (ICE_LAKE, {"AVX2", "AVX-512", "VNNI"}),
        (SAPPHIRE, {"AVX2", "AVX-512", "VNNI", "BF16", "FP16", "AMX"}),
    ],
)
def test_features_are_those_of_the_first_processor(flags, there, said):
    assert {name for name, have in said(info(flags)).items() if have} == there


def test_an_arm_processor_has_words_of_its_own(said):
    found = said("processor\t: 0\nFeatures\t: fp asimd asimddp bf16\n", "aarch64")
    assert {name for name, have in found.items() if have} == {"NEON", "dot products", "BF16"}


def test_a_sentence_tells_what_is_missing_too(said):
    said(info("avx2 fma f16c bmi1 bmi2 movbe abm"))
    assert processor.sentence() == "Some Maker 9000: AVX2; no AVX-512, VNNI, BF16, FP16, AMX"


def test_a_system_that_says_nothing_has_nothing(said, monkeypatch, tmp_path):
    said("")
    monkeypatch.setattr(processor, "INFO", tmp_path / "none")
    processor.features.cache_clear()
    assert not any(processor.features().values())
    assert processor.name()
