import pytest

from harp.errors import HarpError
from harp.registry import Registry, accepted


def colours():
    registry = Registry("colour")

    @registry.register("red")
    def red():
        """The colour of blood.

        More about it.
        """
        return "#f00"

    @registry.register("blue")
    def blue():
        return "#00f"

    return registry


def test_what_is_registered_is_found_and_listed_in_order():
    registry = colours()
    assert registry["red"]() == "#f00"
    assert list(registry) == ["blue", "red"]
    assert len(registry) == 2
    assert "red" in registry
    assert "green" not in registry


def test_registering_gives_the_factory_back():
    def green():
        return "#0f0"

    assert colours().register("green")(green) is green


def test_an_unknown_name_lists_what_exists():
    with pytest.raises(HarpError, match=r"^no colour 'rad'; did you mean 'red'\? there are: blue, red$"):
        colours()["rad"]


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="colour 'red' is registered twice"):
        colours().register("red")


def test_the_summary_is_the_first_line():
    assert colours().summary("red") == "The colour of blood."
    assert colours().summary("blue") == ""


def test_only_options_the_factory_knows_are_accepted():
    def factory(steps, *, restarts=1):
        return steps, restarts

    assert accepted(factory, {"steps": 3, "restarts": 2, "width": 4}) == {"steps": 3, "restarts": 2}
