import tracemalloc

import pytest

from harp.config.documents import MOST, parse_yaml, read_yaml


def nested(first, outer, levels):
    """YAML in which each of so many levels holds the one below nine times."""
    lines = [f"a{level}: &a{level} {outer(','.join([f'*a{level - 1}'] * 9))}" for level in range(1, levels)]
    return "\n".join([f"a0: &a0 {first}", *lines])


BOMBS = {
    "a billion laughs": nested("[ha]", "[{}]".format, 12),
    "mappings merged": nested("{k: 1, l: 2}", "{{<<: [{}]}}".format, 12),
    "what holds itself": "a: &a [*a]",
    "a mapping in itself": "a: &a {b: *a}",
    "a chain of names": "a0: &a0 [x]\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 50)),
    "brackets": "seed: " + "[" * 50_000,
    "braces": "a: " + "{a: " * 5_000,
    "dashes": "- " * 40_000,
    "values": "a: [" + "1," * 40_000 + "]",
    "one name again": "{" + "a," * 40_000 + "}",
    "characters": "#" * 100_001,
    "digits": "seed: " + "9" * 5_000,
    "digits by colons": "seed: 1" + ":59" * 1_000 + ".5",
    "a day that is none": "seed: 2001-99-99",
    "an object": "!!python/object/apply:os.system [ls]",
    "two documents": "a: 1\n---\nb: 1",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_one_line_before_they_are_made(name):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r".") as error:
            parse_yaml(BOMBS[name])
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert "\n" not in str(error.value)


def test_a_large_file_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "large.yaml"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # a hole: on no disk are there so many bytes
    with pytest.raises(ValueError, match="more than 100,000 characters"):
        read_yaml(path)


def test_what_a_name_stands_for_comes_each_time_and_counts_each_time():
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: {<<: {d: *a}}") == {"a": [1, 2], "b": [1, 2], "c": {"d": [1, 2]}}
    thousand = f"a: &a [{'1,' * 1000}]\n"
    times = (MOST - 1005) // 1001  # 1005: all in all, two names, two lists, the first with its values
    assert len(parse_yaml(thousand + f"b: [{'*a,' * times}]")["b"]) == times
    with pytest.raises(ValueError, match="stands for more than 10,000 values"):
        parse_yaml(thousand + f"b: [{'*a,' * (times + 1)}]")


def test_what_cannot_be_read_says_why(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for place, why in (
        (tmp_path, "is a directory"),
        (tmp_path / "link", "no such file"),
        (tmp_path / ("x" * 300), "too long"),
    ):
        with pytest.raises(ValueError, match=why):
            read_yaml(place)
