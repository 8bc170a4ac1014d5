"""Test images and the attacks on them as data-URI PNGs, enlarged without smoothing."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from matplotlib.image import imsave
from numpy.typing import NDArray

from harp.report.record import Examples

Picture = NDArray[numpy.float64]  # (c, h, w), values in [0, 1]

# Small images are enlarged to about this many pixels, so that a 8x8 digit is seen and not guessed.
_SIDE = 96


@dataclass(frozen=True)
class Verdict:
    """The class a model took a picture for, and if it is right; no `model` where the row names it."""

    model: str
    predicted: str
    correct: bool


@dataclass(frozen=True)
class Shot:
    """One picture as a data URI, the text that stands for it, and the models' verdicts on it."""

    source: str
    alternative: str
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True)
class Strip:
    """A row of the pictures' table: what it shows, and one shot for each example."""

    heading: str
    shots: tuple[Shot, ...]


def strips(examples: Examples, classes: Sequence[str], models: Mapping[str, str]) -> list[Strip]:
    """The clean images, then for each of `models` (name to label) the adversarial ones and their difference.

    The differences are shown around mid-grey, amplified by the one factor that lets the largest of all just
    reach black or white.
    """
    factor = _amplification(examples, models)
    rows = [Strip("test image", _shots(examples, examples.images, 0, models, classes))]
    for name, label in models.items():
        adversarial = examples.adversarial[name]
        delta = 0.5 + factor * (adversarial - examples.images)
        rows += [
            Strip(f"attacked, {label}", _shots(examples, adversarial, 1, {name: ""}, classes)),
            Strip(
                f"perturbation × {factor:.3g}, {label}",
                tuple(Shot(data_uri(picture), "the perturbation") for picture in delta),
            ),
        ]
    return rows


def _amplification(examples: Examples, models: Iterable[str]) -> float:
    largest = max(float(numpy.abs(examples.adversarial[name] - examples.images).max()) for name in models)
    return 0.5 / largest if largest > 0 else 1.0


def _shots(
    examples: Examples, pictures: Picture, version: int, models: Mapping[str, str], classes: Sequence[str]
) -> tuple[Shot, ...]:
    def shot(index: int, true: int) -> Shot:
        guesses = {label: int(examples.predictions[name][index, version]) for name, label in models.items()}
        verdicts = tuple(Verdict(label, classes[guess], guess == true) for label, guess in guesses.items())
        return Shot(data_uri(pictures[index]), f"an image of class {classes[true]}", verdicts)

    return tuple(shot(index, true) for index, true in enumerate(examples.labels))


def data_uri(picture: Picture) -> str:
    """`data:image/png;base64,...` of a (c, h, w) picture: three channels in colour, others as their mean."""
    rgb = picture if len(picture) == 3 else numpy.repeat(picture.mean(0, keepdims=True), 3, axis=0)
    pixels = (255 * rgb.clip(0, 1)).round().astype(numpy.uint8).transpose(1, 2, 0)
    factor = max(1, round(_SIDE / max(pixels.shape[:2])))
    large = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    file = io.BytesIO()
    unsigned: dict[str, Any] = {"Software": None}
    imsave(file, numpy.ascontiguousarray(large), format="png", metadata=unsigned)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
