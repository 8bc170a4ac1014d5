"""Planes that are needed at the same time lie apart, and their zeros stay zeros."""

from itertools import pairwise

from hypothesis import given, strategies as st

from harp.runtime.memory import CACHE_PAGE, Arena, Planes
from harp.runtime.program import Steps


@st.composite
def values(draw: st.DrawFn) -> Planes:
    height, width = draw(st.sampled_from([(1, 1), (2, 2), (4, 4), (3, 17), (32, 32)]))
    pitch = draw(st.sampled_from([width, -(-width // 8) * 8])) if width > 1 else 1
    planes = Planes(draw(st.integers(1, 5)), height, width, pitch)
    planes.reach(draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    planes.left, planes.span = draw(st.integers(0, 2)), draw(st.sampled_from([0, height * planes.pitch, 64]))
    return planes


def ends(planes: Planes) -> tuple[int, int]:
    """The first element of its zeros above the first row, and the first that is not its own any more."""
    first = planes.at - planes.head
    return first, first + planes.channels * planes.plane


@given(st.lists(st.tuples(values(), st.integers(0, 5)), min_size=1, max_size=12), st.integers(0, 100))
def test_what_is_needed_at_the_same_time_lies_apart(lives: list[tuple[Planes, int]], slack: int):
    """Value number i is needed from step i to step i + its age."""
    arena = Arena()
    for step, (planes, _) in enumerate(lives):
        arena.take(planes)
        for earlier, (old, age) in enumerate(lives[: step + 1]):
            if earlier + age == step:
                arena.give(old)
    size = arena.settle(slack)
    for number, (planes, age) in enumerate(lives):
        first, end = ends(planes)
        assert slack <= first
        assert end <= size - slack
        assert first % 16 == 0
        for later, (other, _) in enumerate(lives[number + 1 :], number + 1):
            if later <= number + age:
                assert end <= ends(other)[0] or ends(other)[1] <= first
            elif other.at == planes.at:
                assert other.kind() == planes.kind()


@given(values())
def test_a_plane_holds_its_rows_its_zeros_and_all_that_is_written(planes: Planes):
    assert planes.head >= planes.top * planes.pitch + planes.left
    rows = max(planes.height * planes.pitch, planes.span) + planes.bottom * planes.pitch
    assert planes.plane >= planes.head + rows
    assert planes.plane == 1 or planes.plane * 4 % CACHE_PAGE


def test_a_place_is_used_again_only_by_the_alike():
    arena = Arena()
    first, alike, taller = Planes(3, 4, 4, 4), Planes(9, 4, 4, 4), Planes(3, 8, 4, 4)
    arena.take(first)
    arena.give(first)
    arena.take(taller)
    arena.take(alike)
    arena.settle(0)
    assert alike.at == first.at
    assert taller.at >= alike.at - alike.head + 9 * alike.plane


def test_numbers_follow_one_another_without_a_gap():
    """A map of 1 x 1 per channel is a vector, unless something reads beside it."""
    planes = Planes(512, 1, 1, 1)
    assert (planes.plane, planes.head) == (1, 0)
    planes.reach(1, 1)
    assert planes.plane >= 3


def test_room_only_grows():
    planes = Planes(1, 8, 8, 8)
    for above, below in ((1, 2), (2, 0), (0, 1)):
        planes.reach(above, below)
    assert (planes.top, planes.bottom) == (2, 2)


def test_a_program_gives_back_what_nobody_reads_any_more():
    """Of a chain of ten equal values two places are enough, since a step never writes where it reads."""
    steps = Steps(images=1)
    names = [f"v{i}" for i in range(10)]
    steps.planes = {name: Planes(4, 8, 8, 8) for name in names}
    steps.add("input", "v0", channel=0)
    for before, after in pairwise(names):
        steps.add("activate", after, (before,))
    steps.add("output", "", ("v9",), channel=0)
    steps.done()
    places = [steps.planes[name].at for name in names]
    assert len(set(places)) == 2
    assert all(a != b for a, b in pairwise(places))


def test_a_value_read_late_keeps_its_place():
    steps = Steps(images=1)
    names = ["x", "a", "b", "c", "sum"]
    steps.planes = {name: Planes(4, 8, 8, 8) for name in names}
    steps.add("input", "x", channel=0)
    for before, after in pairwise(names[:4]):
        steps.add("activate", after, (before,))
    steps.add("add", "sum", ("c", "x"))
    steps.add("output", "", ("sum",), channel=0)
    steps.done()
    place = {name: steps.planes[name].at for name in names}
    assert place["x"] not in {place[name] for name in ("a", "b", "c", "sum")}
    assert place["c"] == place["a"]
