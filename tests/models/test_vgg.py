from .counting import hollow, sizes


def test_vgg16_bn_has_the_sizes_of_the_paper():
    convolutions = [1728, 36864, 73728, 147456, 294912, 589824, 589824, 1179648, *[2359296] * 5]
    assert sizes(hollow("vgg16_bn")) == [*convolutions, 524288, 65536, 2560]
    assert sum(sizes(hollow("vgg16_bn"))) == 15_302_848


def test_width_and_image_enter_where_they_should():
    narrow = sizes(hollow("vgg16_bn", classes=7, channels=1, width=0.25))
    assert narrow[:2] == [9 * 1 * 16, 9 * 16 * 16]
    assert narrow[-3:] == [4 * 128 * 64, 64 * 64, 64 * 7]
