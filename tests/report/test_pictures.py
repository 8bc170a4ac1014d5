import base64
import io

import matplotlib.image
import numpy

from harp.report.pictures import data_uri, strips
from harp.report.record import Examples


def decoded(uri: str) -> numpy.ndarray:
    png = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    return matplotlib.image.imread(io.BytesIO(png))[..., :3]


def test_a_picture_is_enlarged_without_smoothing() -> None:
    pixels = decoded(data_uri(numpy.array([[[0.0, 1.0], [1.0, 0.0]]])))
    assert pixels.shape == (96, 96, 3)
    assert numpy.unique(pixels).tolist() == [0, 1]
    assert pixels[0, 0, 0] == 0
    assert pixels[0, 95, 0] == 1


def test_three_channels_are_colours() -> None:
    red = numpy.zeros((3, 4, 4))
    red[0] = 1
    assert decoded(data_uri(red))[0, 0].tolist() == [1, 0, 0]


def test_perturbations_share_the_factor_that_just_reaches_white() -> None:
    clean = numpy.full((1, 1, 2, 2), 0.4)
    examples = Examples(
        images=clean,
        labels=(1,),
        adversarial={"dense": clean + 0.1, "finetuned": clean - 0.05},
        predictions={"dense": numpy.array([[1, 0]]), "finetuned": numpy.array([[0, 1]])},
    )
    rows = strips(examples, ["cat", "dog"], {"dense": "dense", "finetuned": "fine-tuned"})
    headings = [row.heading for row in rows]
    assert headings[:3] == ["test image", "attacked, dense", "perturbation × 5, dense"]
    assert decoded(rows[2].shots[0].source).min() == 1
    assert abs(decoded(rows[4].shots[0].source)[0, 0, 0] - 0.25) < 0.003
    assert [verdict.correct for verdict in rows[0].shots[0].verdicts] == [True, False]
    assert [(verdict.predicted, verdict.correct) for verdict in rows[3].shots[0].verdicts] == [("dog", True)]


def test_images_no_attack_moved_are_shown_too() -> None:
    clean = numpy.full((1, 1, 2, 2), 0.4)
    examples = Examples(clean, (0,), {"dense": clean}, {"dense": numpy.array([[0, 0]])})
    assert strips(examples, ["cat"], {"dense": "dense"})[2].heading == "perturbation × 1, dense"
