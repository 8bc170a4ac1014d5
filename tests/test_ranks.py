"""What several processes agree on, and who of them writes."""

import atexit
from functools import partial
from pathlib import Path

import pytest
import torch

from harp.errors import HarpError
from harp.files import read_json, write_json
from harp.ranks import ALONE, alone, grouped, joined, launched, of_group
from tests.ranked import ranked


def test_alone_everything_is_as_it_is():
    x = torch.tensor([1.0, 2.0])
    assert ALONE.mean(x) is x
    assert ALONE.joined(x) is x
    assert ALONE.told(lambda: 3) == 3
    ALONE.average([x])
    ALONE.same("it", "a")
    ALONE.wait()
    assert x.tolist() == [1.0, 2.0]
    with pytest.raises(HarpError, match="as it is"), ALONE.together():
        raise HarpError("as it is")
    assert joined() is ALONE
    assert not grouped()
    with pytest.raises(HarpError, match="there is no process group"):
        of_group()


def test_torchrun_is_known_by_all_that_it_sets():
    assert launched({}) == 1
    assert launched({"WORLD_SIZE": "4", "RANK": "1", "MASTER_ADDR": "here"}) == 4
    assert launched({"WORLD_SIZE": "4"}) == 1  # as Slurm leaves it to a single process
    with pytest.raises(HarpError, match="WORLD_SIZE is 'four'"):
        launched({"WORLD_SIZE": "four"})


def refusal(act):
    try:
        act()
    except HarpError as error:
        return str(error)
    return None


def agreed(ranks, folder):
    """Each rank's view of all that ranks do together."""
    own = torch.tensor([1.0, 4.0]) * (ranks.rank + 1)
    last = torch.arange(16.0).view(1, 4, 2, 2).to(memory_format=torch.channels_last) * ranks.rank
    pair = [torch.full((2,), float(ranks.rank)), torch.full((1,), ranks.rank, dtype=torch.float64)]
    ranks.average(pair)
    write_json(folder / "by.json", ranks.rank)

    def refuse_on_the_second():
        with ranks.together():
            if ranks.rank == 1:
                raise HarpError("the second refuses")

    def refuse_first():
        raise HarpError("the first refuses")

    ranks.wait()
    with alone():
        apart = (joined() is ALONE, ALONE.told(lambda: ranks.rank))
    return {
        "who": (ranks.first, ranks.part, joined() is ranks, of_group() == ranks, grouped()),
        "mean": ranks.mean(own),
        "last": ranks.mean(last),
        "average": pair,
        "joined": ranks.joined(own[None]),
        "told": ranks.told(lambda: f"rank {ranks.rank}"),
        "refused": [refusal(refuse_on_the_second), refusal(lambda: ranks.told(refuse_first))],
        "same": [refusal(partial(ranks.same, "it", digest)) for digest in ("a", f"b{ranks.rank}")],
        "apart": apart,
    }


def test_ranks_agree(tmp_path):
    found = ranked(2, agreed, tmp_path, tmp_path)
    assert [one["who"] for one in found] == [(True, (0, 2), True, True, True), (False, (1, 2), True, True, True)]
    assert [one["apart"] for one in found] == [(True, 0), (True, 1)]
    assert read_json(tmp_path / "by.json") == 0
    for one in found:
        assert one["mean"].tolist() == [1.5, 6.0]
        assert torch.equal(one["last"], torch.arange(16.0).view(1, 4, 2, 2) / 2)
        assert [tensor.tolist() for tensor in one["average"]] == [[0.5, 0.5], [0.5]]
        assert one["joined"].tolist() == [[1.0, 4.0], [2.0, 8.0]]
        assert one["told"] == "rank 0"
        assert one["refused"] == ["the second refuses", "the first refuses"]
        assert one["same"][0] is None
        assert one["same"][1].startswith("it of rank 1 is not that of rank 0: they have drifted apart")


def threads_at_the_end(ranks, folder):
    """Written at the end of each rank's process, which has loaded a module that would keep its group."""
    import torch.distributed.nn.functional  # noqa: F401 - it names the default group in its functions' defaults

    ranks.wait()
    running = Path("/proc/self/task")
    written = folder / f"threads{ranks.rank}"
    atexit.register(lambda: written.write_text("\n".join((task / "comm").read_text() for task in running.iterdir())))


def test_no_thread_of_gloo_outlives_the_group(tmp_path):
    ranked(2, threads_at_the_end, tmp_path, tmp_path)
    for rank in range(2):
        names = (tmp_path / f"threads{rank}").read_text()
        assert "python" in names
        assert "gloo" not in names
