"""Every method on a network whose activations are computed again: the same file, byte for byte."""

import pytest

from harp.errors import HarpError
from harp.stages import run_stages
from tests.stages.test_averaging import ALL, QUICK
from tests.tiny import workspace


@pytest.mark.parametrize(
    ("method", "more"),
    [*QUICK[:1], *(pytest.param(*row, marks=pytest.mark.slow) for row in ALL if row not in QUICK[:1])],
)
def test_a_method_prunes_as_without(tmp_path, method, more):
    if method == "anp-vs":
        with pytest.raises(HarpError, match="anp-vs keeps what layers give"):
            run_stages(workspace(tmp_path, prune={"method": method, **more}, precision={"recompute": True}))
        assert not (tmp_path / "1-pretrain").exists()
        return
    made = []
    for again in (False, True):
        folder = tmp_path / str(again)
        settings = {"prune": {"method": method, **more}, "precision": {"recompute": again}}
        run_stages(workspace(folder, **settings), ["pretrain", "prune"])
        made.append((folder / "2-prune" / "model.safetensors").read_bytes())
    assert made[0] == made[1]
