import yaml

from harp.pipeline.kept import settings_in

ONCE = {"gamma": 0.02, "mode": "penalty", "estimator": "sum", "start": "uniform", "start_keep": None, "keep": 0.1}


def read(tmp_path, **prune):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"prune": prune}))
    return settings_in(path)["prune"]


def test_options_of_old_recipes_are_found_where_they_stood(tmp_path):
    assert read(tmp_path, method="harp", **ONCE) == {"method": "harp", "keep": 0.1, "options": {"gamma": 0.02}}
    assert read(tmp_path, method="hydra", **ONCE) == {"method": "hydra", "keep": 0.1, "options": {}}
    old = {**ONCE, "start": "erk"}
    assert read(tmp_path, method="scores-only", **old)["options"] == {"start": "erk"}


def test_those_of_today_are_as_they_are(tmp_path):
    now = {"method": "harp", "keep": 0.1, "options": {"gamma": 0.01}}
    assert read(tmp_path, **now) == now
