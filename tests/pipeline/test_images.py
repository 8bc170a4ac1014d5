import torch

from harp import data
from harp.pipeline.images import drawn, leading, padding, split_images, varied
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


def test_runs_of_other_seeds_may_have_the_same_images():
    first, other = split_images(tiny(seed=1)), split_images(tiny(seed=2))
    assert not torch.equal(first.train.labels, other.train.labels)
    for split in (split_images(tiny(seed=seed, data={"seed": 1})) for seed in (1, 2)):
        assert torch.equal(split.train.images, first.train.images)
        assert split.validation is not None
        assert first.validation is not None
        assert torch.equal(split.validation.images, first.validation.images)


def test_all_test_images_are_the_sets_own_in_order():
    test = split_images(tiny()).dataset.test
    for count in (None, 449, 10_000):
        chosen, notes = drawn(test, count)
        assert chosen is test
        assert notes == ()


def labelled(*labels):
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None]
    return data.Images(images, torch.tensor(labels))


def test_a_leaderboard_takes_the_first_images_unless_they_are_sorted_by_class():
    assert leading(labelled(1, 0, 1, 0), 2).images.flatten().tolist() == [0, 1]
    assert leading(labelled(0, 0, 0, 0, 1, 1, 2, 2), 4).labels.bincount().tolist() == [2, 1, 1]
    assert leading(labelled(0, 0, 1, 1), 4).images.flatten().tolist() == [0, 1, 2, 3]


def test_windows_take_the_place_of_padding():
    dataset = split_images(tiny()).dataset
    assert varied(tiny().data, dataset) == {"flip": False, "pad": 1, "crop": None, "jitter": 0.0}
    cropped = tiny(data={"crop": [0.5, 1], "jitter": 0.2, "flip": True}).data
    assert varied(cropped, dataset) == {"flip": True, "pad": 0, "crop": (0.5, 1.0), "jitter": 0.2}
