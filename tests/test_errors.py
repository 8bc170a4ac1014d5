from harp.errors import HarpError, choices


def test_choices_name_the_nearest_then_all_in_order():
    assert choices("hrap", ["hydra", "harp"]) == "did you mean 'harp'? there are: harp, hydra"


def test_choices_guess_nothing_where_nothing_is_near():
    assert choices("xyz", ["hydra", "harp"]) == "there are: harp, hydra"


def test_choices_of_nothing():
    assert choices("harp", []) == "there are: none"


def test_a_mistake_is_its_sentence():
    assert str(HarpError("no file a.yaml")) == "no file a.yaml"
