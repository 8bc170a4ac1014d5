from collections.abc import Callable

import pytest

from harp.errors import HarpError
from harp.own import load_own
from harp.registry import Registry, accepted


def colours():
    registry: Registry[Callable[[], str]] = Registry("colour", "things")

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
    with pytest.raises(
        HarpError, match=r"^no colour 'rad'; did you mean 'red'\? there are: blue, red; or one of your own"
    ):
        colours()["rad"]


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="colour 'red' is registered twice"):
        colours().register("red")(print)


def test_the_summary_is_the_first_line():
    assert colours().summary("red") == "The colour of blood."
    assert colours().summary("blue") == ""


def test_only_options_the_factory_knows_are_accepted():
    def factory(steps, *, restarts=1):
        return steps, restarts

    assert accepted(factory, {"steps": 3, "restarts": 2, "width": 4}) == {"steps": 3, "restarts": 2}


def install(folder, monkeypatch, points):
    """A package `guests` with a function `green`, and entry points that name what is in it."""
    info = folder / "guests-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guests\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harp.colours]\n" + "\n".join(f"{n} = {v}" for n, v in points.items()))
    (folder / "guests.py").write_text('def green():\n    """The colour of grass."""\n    return "#0f0"\n')
    monkeypatch.syspath_prepend(str(folder))


def test_installed_packages_bring_names_of_their_own(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, {"green": "guests:green", "grey": "guests:grey"})
    registry: Registry[Callable[[], str]] = Registry("colour", "colours")
    assert list(registry) == ["green", "grey"]
    assert registry["green"]() == "#0f0"
    assert registry.summary("green") == "The colour of grass."
    with pytest.raises(HarpError, match="colour 'grey' of guests:grey cannot be loaded: AttributeError"):
        registry["grey"]


def test_a_file_of_ones_own_is_a_name(tmp_path):
    (tmp_path / "mine.py").write_text("def pink():\n    return '#f0f'\n")
    registry = colours()
    assert f"{tmp_path}/mine.py:pink" in registry
    assert registry[f"{tmp_path}/mine.py:pink"]() == "#f0f"
    with pytest.raises(HarpError, match=r"no function or class 'pinc' in mine\.py; did you mean 'pink'"):
        registry[f"{tmp_path}/mine.py:pinc"]


def test_a_users_file_that_was_edited_may_register_its_name_again(tmp_path):
    registry = colours()
    path = tmp_path / "mine.py"
    for value in ("#111", "#222"):
        path.write_text(f"def grey():\n    return {value!r}\n")
        registry.register("grey")(load_own(f"{path}:grey", "colour"))
        assert registry["grey"]() == value
    with pytest.raises(ValueError, match="colour 'red' is registered twice"):
        registry.register("red")(registry["grey"])
