from harp.pipeline.images import padding, split_images
from tests.tiny import tiny


def test_padding_is_the_recipes_or_else_the_sets():
    dataset = split_images(tiny()).dataset
    assert padding(tiny().data, dataset) == 1
    assert padding(tiny(data={"pad": 0}).data, dataset) == 0
