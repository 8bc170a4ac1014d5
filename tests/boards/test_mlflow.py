"""A stage that was killed and went on is one run of MLflow, in a database in the run's folder."""

import pytest

from harp.boards import About, fed
from harp.runs import Metrics
from tests.boards.test_feed import killed

WHY = "mlflow and its database take 100 MB, for an extra; `pip install -e .[mlflow]` lets this run"
mlflow = pytest.importorskip("mlflow", reason=WHY)
pytest.importorskip("sqlalchemy", reason=WHY)


def test_the_database_holds_every_step_once(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "2-prune").mkdir()
    about = About(tmp_path / "2-prune", "mine", "2-prune", {"epochs": 3})
    metrics = Metrics(about.folder / "metrics.jsonl")
    killed(["mlflow"], about, metrics, [{"step": 2, "loss": 0.5}])
    with fed(["mlflow"], about, metrics, print):
        metrics.add({"step": 4, "loss": 0.25})
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("harp").experiment_id])
    assert run.info.run_name == "mine/2-prune"
    assert (run.info.status, run.data.params) == ("FINISHED", {"epochs": "3"})
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(one.step, one.value) for one in history] == [(2, 0.5), (4, 0.25)]
