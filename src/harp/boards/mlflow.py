"""MLflow: one of its runs a stage, where MLFLOW_TRACKING_URI says, else in a database in the run's folder."""

import os
import time
from collections.abc import Mapping

from harp.boards.board import About
from harp.extras import need

EXPERIMENT = "harp"


class MLflow:
    def __init__(self, about: About):
        library = need("mlflow", "mlflow", "the board mlflow")
        local = f"sqlite:///{(about.folder.parent / 'mlflow.db').absolute()}"
        if "MLFLOW_TRACKING_URI" not in os.environ:
            need("sqlalchemy", "mlflow", "the board mlflow without a server")
        self._metric = need("mlflow.entities", "mlflow").Metric
        self._client = library.MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", local))
        self.key = about.key or self._begin(about)
        self._client.update_run(self.key, status="RUNNING")

    def _begin(self, about: About) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        run = self._client.create_run(experiment, run_name=f"{about.run}/{about.stage}")
        for setting, value in about.settings.items():
            self._client.log_param(run.info.run_id, setting, value)
        return str(run.info.run_id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = round(1000 * time.time())
        metrics = [self._metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self.key, metrics=metrics)

    def close(self, ended: bool) -> None:
        self._client.set_terminated(self.key, status="FINISHED" if ended else "KILLED")
