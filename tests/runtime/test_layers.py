import numpy

from harp.runtime.convolutions import Reading
from harp.runtime.layers import Layer
from harp.runtime.tiling import Tiling


def test_what_is_halved_was_twice_as_high_and_wide():
    layer = Layer("conv", "c", ("x",), (4, 3, 5))
    assert layer.swept == (4, 3, 5)
    assert Layer("conv", "c", ("x",), (4, 3, 5), halved=True).swept == (4, 6, 10)


def test_columns_are_counted_on_either_side_of_the_centre():
    def reading(*shifts):
        shift = numpy.array([shifts])
        return Reading(0, ((0, 0),), shift * 0, shift * 0, shift, Tiling(1, 1, 1, 1, 0.0))

    for shifts, before, after in (((-1, 0, 1), 1, 1), ((0,), 0, 0), ((-3, -1), 3, 0), ((1, 2), 0, 2)):
        found = reading(*shifts)
        assert (found.before, found.after, found.columns) == (before, after, before + 1 + after)
