import matplotlib.image
import pytest

from harp.errors import HarpError
from harp.report.speed import write_latencies

ROWS = {"1": {"harp": (2e-4, 1e-4), "OpenVINO f32": (4e-3, 3e-3)}, "64": {"harp": (2e-2, 1e-2)}}


def test_a_chart_names_runners_batches_and_milliseconds(tmp_path):
    paths = write_latencies(tmp_path / "chart", ROWS, "a network, 1 thread")
    assert [path.name for path in paths] == ["chart.png", "chart.svg"]
    assert matplotlib.image.imread(paths[0]).shape[1] > 1000
    text = paths[1].read_text()
    for word in (
        "harp",
        "OpenVINO f32",
        "batch 1",
        "batch 64",
        ">0.2<",
        ">4<",
        ">20<",
        "log scale",
        "a network, 1 thread",
    ):
        assert word in text
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_latencies(tmp_path / "chart", ROWS, "a network, 1 thread")] == before


@pytest.mark.parametrize("count", [0, 5])
def test_too_many_batches_are_refused(tmp_path, count):
    with pytest.raises(HarpError, match="expected 1 to 4 batch sizes"):
        write_latencies(tmp_path / "chart", {str(n): ROWS["1"] for n in range(count)}, "")
