from harp.errors import HarpError, choices


def test_choices_name_the_nearest_then_all_in_order():
    assert choices("hrap", ["hydra", "harp"]) == "did you mean 'harp'? there are: harp, hydra"


def test_choices_guess_nothing_where_nothing_is_near():
    assert choices("xyz", ["hydra", "harp"]) == "there are: harp, hydra"


def test_choices_of_nothing():
    assert choices("harp", []) == "there are: none"


def test_of_many_choices_only_the_nearest_five_are_named():
    said = choices("net3", (f"net{i}" for i in range(31)))
    assert said == "did you mean 'net3'? there are 31, the nearest: net3, net30, net23, net13, net9"


def test_a_mistake_is_its_sentence():
    assert str(HarpError("no file a.yaml")) == "no file a.yaml"
