"""The data set that is always there: scikit-learn ships it, so nothing is downloaded."""

from pathlib import Path

import torch

from harp.data.base import DATA, Dataset, Images
from harp.data.split import holdout
from harp.errors import HarpError


@DATA.register("digits")
def digits(path: Path | None) -> Dataset:
    """1,797 grey 8x8 images of handwritten digits (UCI, via scikit-learn): 1,348 to train on, 449 to test on.

    The pixels' own range 0..16 becomes 0..255. The test part is a quarter of each class, the same on every
    call. Raises `HarpError` where a path is given. Source: Alpaydin and Kaynak (1998), UCI repository, test
    part.
    """
    if path is not None:
        raise HarpError(f"data set 'digits' ships with scikit-learn and takes no data.path, got {path}; leave it out")
    # Imported late: scikit-learn takes a second, and only these images need it.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = torch.from_numpy(bunch.images).mul(255 / 16).round().to(torch.uint8)
    images = Images(pixels[:, None].contiguous(), torch.from_numpy(bunch.target).to(torch.int64))
    train, test = holdout(images.labels, 0.25, seed=0)
    names = tuple(str(digit) for digit in range(10))
    return Dataset("digits", images.take(train), images.take(test), names, flip=False, pad=1)
