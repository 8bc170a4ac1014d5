import torch

from harp.pipeline.images import drawn, padding, split_images
from tests.tiny import tiny


def test_padding_is_the_recipes_or_else_the_sets():
    dataset = split_images(tiny()).dataset
    assert padding(tiny().data, dataset) == 1
    assert padding(tiny(data={"pad": 0}).data, dataset) == 0


def test_a_part_of_the_test_images_has_every_class_and_says_so():
    split = split_images(tiny(evaluation={"images": 60}))
    assert split.test.labels.bincount().tolist() == [6] * 10
    assert split.notes == ("60 of 449 test images were attacked, drawn at random from each class in proportion",)
    other = split_images(tiny(seed=5, evaluation={"images": 60}))
    assert torch.equal(other.test.images, split.test.images)


def test_all_test_images_are_the_sets_own_in_order():
    test = split_images(tiny()).dataset.test
    for count in (None, 449, 10_000):
        chosen, notes = drawn(test, count)
        assert chosen is test
        assert notes == ()
