"""What MLflow's clients ask for, said in the words of ``sampan.track``: one function a route.

Those of ``logged`` and ``begun`` are called again and again by training loops; they give futures, so that no thread
waits.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final

import msgspec

from sampan.api import mlflow_wire as wire
from sampan.api import mlflow_written as written
from sampan.api.mlflow_messages import API, INFO, MODEL
from sampan.base.errors import Usage
from sampan.track import page
from sampan.track.experiments import number
from sampan.track.limits import LARGEST, shown
from sampan.track.records import Dataset, File, Input, Link, Metric, Run
from sampan.track.tracking import Tracking

Route = tuple[str, str]
#: Given the request and what the path names; the answer.
Doing = Callable[[Any, Mapping[str, str]], Any]
_MOST_POINTS: Final = 100_000
_MODEL_HISTORY: Final = "mlflow.log-model.history"


class MlflowRoutes:
    """Does what the messages ask for."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking
        post, get = "POST", "GET"
        self.logged: Mapping[Route, Callable[[Any], Future[None]]] = {
            (post, f"{API}/runs/log-metric"): self._log_metric,
            (post, f"{API}/runs/log-batch"): self._log_batch,
            (post, f"{API}/runs/log-parameter"): self._log_param,
            (post, f"{API}/runs/set-tag"): self._set_tag,
        }
        self.begun: Mapping[Route, tuple[Callable[[Any], Future[Run]], Callable[[Run], Any]]] = {
            (post, f"{API}/runs/create"): (self._create_run, lambda run: wire.OneRun(written.write_run(run))),
            (post, f"{API}/runs/update"): (self._update_run, lambda run: wire.OneRunInfo(written.write_info(run))),
        }
        self.done: Mapping[Route, Doing] = {
            (post, f"{API}/experiments/create"): self._create_experiment,
            (get, f"{API}/experiments/get"): self._get_experiment,
            (get, f"{API}/experiments/get-by-name"): self._get_by_name,
            (post, f"{API}/experiments/search"): self._search_experiments,
            (get, f"{API}/experiments/search"): self._search_experiments,
            (post, f"{API}/experiments/update"): self._rename,
            (post, f"{API}/experiments/delete"): self._delete_experiment,
            (post, f"{API}/experiments/restore"): self._restore_experiment,
            (post, f"{API}/experiments/set-experiment-tag"): self._set_experiment_tag,
            (post, f"{API}/experiments/delete-experiment-tag"): self._delete_experiment_tag,
            (post, f"{API}/experiments/search-datasets"): self._search_datasets,
            (get, f"{API}/runs/get"): self._get_run,
            (post, f"{API}/runs/delete"): self._delete_run,
            (post, f"{API}/runs/restore"): self._restore_run,
            (post, f"{API}/runs/search"): self._search_runs,
            (post, f"{API}/runs/delete-tag"): self._delete_tag,
            (post, f"{API}/runs/log-inputs"): self._log_inputs,
            (post, f"{API}/runs/outputs"): self._log_outputs,
            (post, f"{API}/runs/log-model"): self._log_model,
            (get, f"{API}/metrics/get-history"): self._history,
            (get, f"{API}/metrics/get-history-bulk-interval"): self._interval,
            (get, f"{API}/artifacts/list"): self._list_artifacts,
            (post, f"{API}/logged-models"): self._create_model,
            (post, f"{API}/logged-models/search"): self._search_models,
            (get, MODEL): self._get_model,
            ("PATCH", MODEL): self._finalize_model,
            ("DELETE", MODEL): self._delete_model,
            (post, f"{MODEL}/params"): self._log_model_params,
            ("PATCH", f"{MODEL}/tags"): self._set_model_tags,
            ("DELETE", f"{MODEL}/tags/{{key}}"): self._delete_model_tag,
            (get, f"{MODEL}/artifacts/directories"): self._list_model_artifacts,
            (get, INFO): lambda _, named: wire.ServerInfo(),
        }

    # -- what training loops call

    def _log_metric(self, one: wire.LogMetric) -> "Future[None]":
        metric = Metric(one.key, one.value, one.timestamp, one.step, one.model_id, one.dataset_name, one.dataset_digest)
        return self._tracking.logging.log(one.run, [metric], attempted="Log a metric")

    def _log_batch(self, one: wire.LogBatch) -> "Future[None]":
        metrics = [
            Metric(m.key, m.value, m.timestamp, m.step, m.model_id, m.dataset_name, m.dataset_digest)
            for m in one.metrics
        ]
        params = [(pair.key, pair.value) for pair in one.params]
        tags = [(pair.key, pair.value) for pair in one.tags]
        return self._tracking.logging.log(one.run_id, metrics, params, tags)

    def _log_param(self, one: wire.LogParam) -> "Future[None]":
        return self._tracking.logging.log(one.run, params=[(one.key, one.value)], attempted="Log a parameter")

    def _set_tag(self, one: wire.SetTag) -> "Future[None]":
        return self._tracking.logging.log(one.run, tags=[(one.key, one.value)], attempted="Set a tag")

    def _create_run(self, one: wire.CreateRun) -> "Future[Run]":
        experiment = number("Create a run", one.experiment_id)
        return self._tracking.runs.begin(
            experiment, name=one.run_name, user=one.user_id, started=one.start_time, tags=_values(one.tags)
        )

    def _update_run(self, one: wire.UpdateRun) -> "Future[Run]":
        return self._tracking.runs.change(one.run, status=one.status, ended=one.end_time, name=one.run_name)

    # -- experiments

    def _create_experiment(self, one: wire.CreateExperiment, named: Mapping[str, str]) -> wire.ExperimentId:
        if one.artifact_location:
            raise Usage(
                "Create an experiment",
                f"artifact_location {shown(one.artifact_location)} was given",
                "Leave it out: the hub keeps all artifacts itself.",
            )
        made = self._tracking.experiments.create(one.name, _values(one.tags))
        return wire.ExperimentId(str(made))

    def _get_experiment(self, one: wire.ExperimentId, named: Mapping[str, str]) -> wire.OneExperiment:
        found = self._tracking.experiments.get(number("Read an experiment", one.experiment_id))
        return wire.OneExperiment(written.write_experiment(found))

    def _get_by_name(self, one: wire.ExperimentName, named: Mapping[str, str]) -> wire.OneExperiment:
        return wire.OneExperiment(written.write_experiment(self._tracking.experiments.named(one.experiment_name)))

    def _search_experiments(self, one: wire.SearchExperiments, named: Mapping[str, str]) -> wire.Experiments:
        found = self._tracking.search.experiments(
            one.filter, view=one.view_type, orders=one.order_by, limit=one.max_results, token=one.page_token
        )
        return wire.Experiments([written.write_experiment(each) for each in found.found], found.next)

    def _rename(self, one: wire.UpdateExperiment, named: Mapping[str, str]) -> wire.Nothing:
        self._tracking.experiments.rename(number("Rename an experiment", one.experiment_id), one.new_name)
        return wire.Nothing()

    def _delete_experiment(self, one: wire.ExperimentId, named: Mapping[str, str]) -> wire.Nothing:
        self._tracking.experiments.delete(number("Delete an experiment", one.experiment_id))
        return wire.Nothing()

    def _restore_experiment(self, one: wire.ExperimentId, named: Mapping[str, str]) -> wire.Nothing:
        self._tracking.experiments.restore(number("Restore an experiment", one.experiment_id))
        return wire.Nothing()

    def _set_experiment_tag(self, one: wire.SetExperimentTag, named: Mapping[str, str]) -> wire.Nothing:
        self._tracking.experiments.set_tag(number("Tag an experiment", one.experiment_id), one.key, one.value)
        return wire.Nothing()

    def _delete_experiment_tag(self, one: wire.DeleteExperimentTag, named: Mapping[str, str]) -> wire.Nothing:
        self._tracking.experiments.delete_tag(number("Delete an experiment's tag", one.experiment_id), one.key)
        return wire.Nothing()

    def _search_datasets(self, one: wire.SearchDatasets, named: Mapping[str, str]) -> wire.FoundDatasets:
        ids = [number("Search datasets", id) for id in one.experiment_ids]
        found = self._tracking.search.datasets(ids)
        return wire.FoundDatasets([wire.FoundDataset(str(id), *rest) for id, *rest in found])

    # -- runs

    def _get_run(self, one: wire.RunId, named: Mapping[str, str]) -> wire.OneRun:
        return wire.OneRun(written.write_run(self._tracking.runs.get(one.run)))

    def _delete_run(self, one: wire.RunId, named: Mapping[str, str]) -> wire.Nothing:
        self._tracking.runs.delete(one.run)
        return wire.Nothing()

    def _restore_run(self, one: wire.RunId, named: Mapping[str, str]) -> wire.Nothing:
        self._tracking.runs.restore(one.run)
        return wire.Nothing()

    def _search_runs(self, one: wire.SearchRuns, named: Mapping[str, str]) -> wire.FoundRuns:
        found = self._tracking.search.runs(
            [number("Search runs", id) for id in one.experiment_ids],
            one.filter,
            view=one.run_view_type,
            orders=one.order_by,
            limit=one.max_results,
            token=one.page_token,
        )
        return wire.FoundRuns([written.write_run(run) for run in found.found], found.next)

    def _delete_tag(self, one: wire.DeleteTag, named: Mapping[str, str]) -> wire.Nothing:
        self._tracking.logging.delete_tag(one.run_id, one.key)
        return wire.Nothing()

    def _log_inputs(self, one: wire.LogInputs, named: Mapping[str, str]) -> wire.Nothing:
        inputs = [
            Input(
                Dataset(
                    given.dataset.name,
                    given.dataset.digest,
                    given.dataset.source_type,
                    given.dataset.source,
                    given.dataset.schema,
                    given.dataset.profile,
                ),
                _values(given.tags),
            )
            for given in one.datasets
        ]
        self._tracking.logging.inputs(one.run_id, inputs, [Link(model.model_id) for model in one.models])
        return wire.Nothing()

    def _log_outputs(self, one: wire.LogOutputs, named: Mapping[str, str]) -> wire.Nothing:
        self._tracking.logging.outputs(one.run_id, [Link(model.model_id, model.step) for model in one.models])
        return wire.Nothing()

    def _log_model(self, one: wire.LogModel, named: Mapping[str, str]) -> wire.Nothing:
        attempted = "Log a model's record"
        try:
            record = msgspec.json.decode(one.model_json)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Usage(attempted, f"model_json is no JSON: {error}") from None
        if not isinstance(record, dict):
            raise Usage(attempted, f"model_json is {shown(one.model_json)}", "It must be an object.")
        self._tracking.logging.append(one.run_id, _MODEL_HISTORY, record)
        return wire.Nothing()

    def _history(self, one: wire.MetricHistory, named: Mapping[str, str]) -> wire.MetricValues:
        limit = _MOST_POINTS if one.max_results is None else one.max_results
        if not 1 <= limit <= _MOST_POINTS:
            raise Usage(
                "Read a metric's history",
                f"invalid value {limit} for max_results",
                f"It lies between 1 and {_MOST_POINTS}.",
            )
        asked = page.question("history", one.run, one.metric_key)
        place = page.place_of(one.page_token, asked)
        found = self._tracking.runs.history(one.run, one.metric_key, limit + 1, page.point(place))
        more = page.token(page.after(asked, found[limit - 1])) if len(found) > limit else ""
        return wire.MetricValues([written.write_metric(point) for point in found[:limit]], more)

    def _interval(self, one: wire.MetricInterval, named: Mapping[str, str]) -> wire.MetricValues:
        attempted = "Read metrics of several runs"
        if not 1 <= len(one.run_ids) <= 100:
            raise Usage(attempted, f"{len(one.run_ids)} run_ids", "Name between 1 and 100.")
        if not 1 <= one.max_results <= 2500:
            raise Usage(attempted, f"invalid value {one.max_results} for max_results", "It lies between 1 and 2500.")
        start = -LARGEST if one.start_step is None else one.start_step
        end = LARGEST if one.end_step is None else one.end_step
        if start > end:
            raise Usage(attempted, f"start_step {start} is after end_step {end}", "Exchange them.")
        found = []
        for run in one.run_ids:
            found += self._tracking.runs.interval(run, one.metric_key, start, end, one.max_results)
        return wire.MetricValues([written.write_metric(point) for point in found])

    # -- artifacts

    def _list_artifacts(self, one: wire.ListArtifacts, named: Mapping[str, str]) -> wire.Files:
        run = self._tracking.runs.get(one.run)
        found = self._tracking.artifacts.list(run.id, one.path)
        return wire.Files([_file(file) for file in found], written.run_uri(run.experiment, run.id))

    # -- logged models

    def _create_model(self, one: wire.CreateLoggedModel, named: Mapping[str, str]) -> wire.OneLoggedModel:
        made = self._tracking.models.create(
            number("Create a logged model", one.experiment_id),
            one.name,
            one.model_type,
            one.source_run_id,
            _values(one.params),
            _values(one.tags),
        )
        return wire.OneLoggedModel(written.write_model(made))

    def _search_models(self, one: wire.SearchLoggedModels, named: Mapping[str, str]) -> wire.FoundLoggedModels:
        if any(order.dataset_name for order in one.order_by):
            raise Usage("Search logged models", "order_by names a dataset", "Sort by the metric alone.")
        found = self._tracking.models.search(
            [number("Search logged models", id) for id in one.experiment_ids],
            one.filter,
            orders=[(order.field_name, order.ascending) for order in one.order_by],
            limit=one.max_results,
            token=one.page_token,
        )
        return wire.FoundLoggedModels([written.write_model(model) for model in found.found], found.next)

    def _get_model(self, one: wire.GetLoggedModel, named: Mapping[str, str]) -> wire.OneLoggedModel:
        found = self._tracking.models.get(named["model_id"], deleted=one.allow_deleted == "true")
        return wire.OneLoggedModel(written.write_model(found))

    def _finalize_model(self, one: wire.FinalizeLoggedModel, named: Mapping[str, str]) -> wire.OneLoggedModel:
        return wire.OneLoggedModel(
            written.write_model(self._tracking.models.change(named["model_id"], status=one.status))
        )

    def _delete_model(self, one: wire.Nothing, named: Mapping[str, str]) -> wire.Nothing:
        self._tracking.models.delete(named["model_id"])
        return wire.Nothing()

    def _log_model_params(self, one: wire.LogLoggedModelParams, named: Mapping[str, str]) -> wire.Nothing:
        self._tracking.models.change(named["model_id"], params=_values(one.params))
        return wire.Nothing()

    def _set_model_tags(self, one: wire.SetLoggedModelTags, named: Mapping[str, str]) -> wire.OneLoggedModel:
        made = self._tracking.models.change(named["model_id"], tags=_values(one.tags))
        return wire.OneLoggedModel(written.write_model(made))

    def _delete_model_tag(self, one: wire.Nothing, named: Mapping[str, str]) -> wire.Nothing:
        self._tracking.models.delete_tag(named["model_id"], named["key"])
        return wire.Nothing()

    def _list_model_artifacts(self, one: wire.ListModelArtifacts, named: Mapping[str, str]) -> wire.Files:
        model = self._tracking.models.get(named["model_id"])
        found = self._tracking.artifacts.list(model.id, one.artifact_directory_path)
        return wire.Files([_file(file) for file in found], written.model_uri(model.experiment, model.id))


def _values(given: list[wire.Pair]) -> dict[str, str]:
    return {pair.key: pair.value for pair in given}


def _file(file: File) -> wire.FileInfo:
    return wire.FileInfo(file.path, file.is_folder, file.size)
