import math

import pytest

from harp.report.formats import attack, duration, fact, file_size, interval, percent, threat_name
from harp.threats import Threat
from harp.written import Accuracy


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8321, "83.2 %"),
        (0.01, "1.0 %"),
        (0.00123, "0.12 %"),
        (0.0005, "0.050 %"),
        (0.0, "0.0 %"),
        (None, "–"),
    ],
)
def test_percent(value: float | None, text: str) -> None:
    assert percent(value) == text


def test_threat_name() -> None:
    assert threat_name(Threat(math.inf, 4 / 255)) == "L∞, eps = 4/255"
    assert threat_name(Threat(2, 128 / 255)) == "L2, eps = 128/255"
    assert threat_name(Threat(1, 12)) == "L1, eps = 12"


def test_interval() -> None:
    assert interval(Accuracy(0.832, 0.791, 0.866, 400)) == "83.2 (79.1-86.6)"
    assert interval(None) == "–"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.00 kB"), (12345, "12.3 kB"), (999_600, "1.00 MB")],
)
def test_file_size(size: int, text: str) -> None:
    assert file_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.21, "4.2 s"), (725.2, "12 min 5 s"), (12000, "3 h 20 min"), (None, "–")]
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_a_fact_is_itself_a_dash_or_digests_by_file():
    assert fact("2.13.0") == "2.13.0"
    assert fact(None) == "–"
    assert fact({"net.py": "0123456789abcdef", "b.py": "f" * 64}) == "net.py 0123456789ab, b.py ffffffffffff"


def test_an_attack_is_told_in_words_and_one_of_your_own_as_it_is():
    pgd = "PGD(steps=20, step=0.25, loss='margin', start_in_box=True, targets=None)"
    words = "PGD with steps 20, step 0.25, loss margin, start in box"
    assert attack(pgd) == words
    assert attack(f"Quick(attack={pgd}, bf16=False)") == words
    assert attack("Flip()") == "Flip"
    for other in ("<my.Attack object>", "mine", "", "f(1)", "A(b=c)", "a.b(c=1)"):
        assert attack(other) == other
