"""What is known of logged runs, as the messages of MLflow's REST API."""

import math

from sampan.api import mlflow_wire as wire
from sampan.track import records


def experiment_uri(experiment: int) -> str:
    """Where clients think that an experiment's artifacts lie: the hub, which finds them by run or model."""
    return f"mlflow-artifacts:/{experiment}"


def run_uri(experiment: int, run: str) -> str:
    """The root of a run's artifacts."""
    return f"{experiment_uri(experiment)}/{run}/artifacts"


def model_uri(experiment: int, model: str) -> str:
    """The root of a logged model's artifacts."""
    return f"{experiment_uri(experiment)}/models/{model}/artifacts"


def pairs(values: dict[str, str]) -> list[wire.Pair]:
    return [wire.Pair(key, value) for key, value in values.items()]


def _stage(deleted: int | None) -> str:
    return "active" if deleted is None else "deleted"


def write_experiment(one: records.Experiment) -> wire.LoggedExperiment:
    return wire.LoggedExperiment(
        str(one.id),
        one.name,
        experiment_uri(one.id),
        _stage(one.deleted),
        one.updated,
        one.created,
        pairs(one.tags),
    )


def write_metric(one: records.Metric) -> wire.MetricValue:
    value: float | str = one.value
    if not math.isfinite(one.value):
        value = "NaN" if math.isnan(one.value) else "Infinity" if one.value > 0 else "-Infinity"
    return wire.MetricValue(one.key, value, one.time, one.step, one.model, one.dataset, one.digest, one.run)


def write_info(one: records.Run) -> wire.RunInfo:
    return wire.RunInfo(
        one.id,
        one.id,
        one.name,
        str(one.experiment),
        one.user,
        one.status,
        one.started,
        run_uri(one.experiment, one.id),
        _stage(one.deleted),
        one.ended,
    )


def write_run(one: records.Run) -> wire.LoggedRun:
    return wire.LoggedRun(
        write_info(one),
        wire.RunData([write_metric(metric) for metric in one.metrics], pairs(one.params), pairs(one.tags)),
        wire.RunInputs(
            [wire.DatasetInput(_dataset(given.dataset), pairs(given.tags)) for given in one.inputs],
            [wire.ModelInput(link.model) for link in one.used],
        ),
        wire.RunOutputs([wire.ModelOutput(link.model, link.step) for link in one.made]),
    )


def _dataset(one: records.Dataset) -> wire.SourceDataset:
    return wire.SourceDataset(one.name, one.digest, one.source_type, one.source, one.schema, one.profile)


def write_model(one: records.LoggedModel) -> wire.LoggedModel:
    info = wire.LoggedModelInfo(
        one.id,
        str(one.experiment),
        one.name,
        one.created,
        one.updated,
        model_uri(one.experiment, one.id),
        one.status,
        one.kind,
        one.run,
        pairs(one.tags),
    )
    return wire.LoggedModel(
        info, wire.LoggedModelData(pairs(one.params), [write_metric(metric) for metric in one.metrics])
    )
