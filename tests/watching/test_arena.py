"""What is told of an arena from its cells' files."""

import json

from harp.watching import is_arena, lines, watched_arena
from tests.watching.test_run import begun


def cell(folder, name):
    place = folder / name
    place.mkdir(parents=True)
    (place / "asked.yaml").write_text("")
    return place


def finish(place):
    for stage in ("evaluation", "export"):
        (place / stage).mkdir()
        (place / stage / "done.json").write_text("{}")


def results(unfinished, failed=()):
    known = {"name": "a", "recipe": "digits", "data": "digits", "threat": {}, "attacks": {}, "environment": {}}
    lists: dict[str, list[str]] = {"dense": [], "measured": [], "ranking": [], "neighbours": []}
    gone = [{"row": row, "keep": 0.1, "seed": 0, "reason": "why"} for row in failed]
    return json.dumps({**known, **lists, "failed": gone, "unfinished": unfinished})


def test_cells_are_finished_stopped_failed_or_not_begun(tmp_path):
    finish(cell(tmp_path, "dense-seed0"))
    (cell(tmp_path, "cells/bad-0.1-seed0") / "failed.json").write_text('{"reason": "why"}')
    place = cell(tmp_path, "cells/harp-0.1-seed0")
    begun(place, 4, 8)
    assert is_arena(tmp_path)
    assert not is_arena(place)
    state = watched_arena(tmp_path)
    at = "pretrain: running, step 8 of 12, 10 s left, loss 2.000, clean 50.0 %, robust 40.0 %"
    assert lines(state) == [
        "cells/bad-0.1-seed0: failed: why",
        f"cells/harp-0.1-seed0: stopped, {at}",
        "dense-seed0: finished",
        "1 finished, 0 running, 1 failed, 1 stopped",
    ]
    (tmp_path / "results.json").write_text(results(2, ["bad"]))
    assert watched_arena(tmp_path).waiting == 1
    assert lines(watched_arena(tmp_path))[-1] == "1 finished, 0 running, 1 failed, 1 stopped, 1 not begun"


def test_an_arena_has_ended_once_nothing_is_left_to_do(tmp_path):
    finish(cell(tmp_path, "cells/a"))
    (cell(tmp_path, "cells/b") / "failed.json").write_text('{"rea')  # half written
    assert not watched_arena(tmp_path).ended
    (tmp_path / "results.json").write_text(results(1, ["b"]))
    assert watched_arena(tmp_path).ended
