"""Addresses of pages, made in one place. Every object has one, and it never changes."""

from typing import Final
from urllib.parse import quote, urlencode

from sampan.hub import plotly


def _path(*parts: str | int) -> str:
    return "/" + "/".join(quote(str(part), safe=":,@") for part in parts)


class Urls:
    """Builds addresses; templates know it as ``url``."""

    @staticmethod
    def static(name: str) -> str:
        return f"/static/{name}?{STAMP}"

    @staticmethod
    def plotly() -> str:
        """The script that draws charts; empty where its package is not installed."""
        return f"/charts/{plotly.name()}" if plotly.script() else ""

    @staticmethod
    def log(**query: str | int | None) -> str:
        return _with_query("/log", query)

    @staticmethod
    def event(position: str) -> str:
        return _path("log", position)

    @staticmethod
    def blob(digest: str, **query: str | int | None) -> str:
        return _with_query(f"/v1/blobs/{quote(digest, safe='')}", query)

    @staticmethod
    def contract(type: str, **query: str | int | None) -> str:
        return _with_query(_path("contracts", type), query)

    @staticmethod
    def quarantine(**query: str | int | None) -> str:
        return _with_query("/quarantine", query)

    @staticmethod
    def repair(repair: str) -> str:
        return _path("quarantine", "repairs", repair)

    @staticmethod
    def search(q: str = "") -> str:
        return _with_query("/search", {"q": q})

    @staticmethod
    def unsilence(silence: str) -> str:
        return _path("alerts", "silences", silence, "end")

    @staticmethod
    def item(position: str) -> str:
        return _path("quarantine", position)

    @staticmethod
    def table(name: str, **query: str | int | None) -> str:
        return _with_query(_path("tables", name), query)

    @staticmethod
    def branch(name: str) -> str:
        return _path("branches", name)

    @staticmethod
    def replay(replay: str) -> str:
        return _path("replays", replay)

    @staticmethod
    def impact(impact: str) -> str:
        return _path("impact", impact)

    @staticmethod
    def run(run: str) -> str:
        return _path("runs", run)

    @staticmethod
    def run_log(run: str, log: str) -> str:
        return _path("runs", run, "logs", log)

    @staticmethod
    def tables(**query: str | int | None) -> str:
        return _with_query("/tables", query)

    @staticmethod
    def settings(**query: str | int | None) -> str:
        return _with_query("/settings", query)

    @staticmethod
    def experiment(experiment: int, **query: str | int | None) -> str:
        return _with_query(_path("experiments", experiment), query)

    @staticmethod
    def compare(experiment: int, **query: str | int | None) -> str:
        return _with_query(_path("experiments", experiment, "compare"), query)

    @staticmethod
    def diff(before: str, after: str) -> str:
        return _with_query("/diff", {"before": before, "after": after})

    @staticmethod
    def logged_run(experiment: int, run: str, **query: str | int | None) -> str:
        return _with_query(_path("experiments", experiment, "runs", run), query)

    @staticmethod
    def models(**query: str | int | None) -> str:
        return _with_query("/models", query)

    @staticmethod
    def model(model: str) -> str:
        return _path("models", model)

    @staticmethod
    def version(ref: str) -> str:
        model, _, number = ref.partition("@")
        return _path("models", model, number)

    @staticmethod
    def comment(kind: str, name: str) -> str:
        return _path("comments", kind, name, "add")

    @staticmethod
    def withdraw(comment: str) -> str:
        return _path("comments", comment, "withdraw")

    @staticmethod
    def card(ref: str = "") -> str:
        return f"{Urls.version(ref)}/card" if ref else "/card"

    @staticmethod
    def promotion(ref: str, to: str = "") -> str:
        return _with_query(f"{Urls.version(ref)}/promote", {"to": to})

    @staticmethod
    def endpoint(name: str, **query: str | int | None) -> str:
        return _with_query(_path("endpoints", name), query)

    @staticmethod
    def rollout(rollout: str) -> str:
        return _path("rollouts", rollout)

    @staticmethod
    def shadowed(rollout: str) -> str:
        return _path("rollouts", rollout, "shadow")

    @staticmethod
    def shadow(shadow: str) -> str:
        return _path("shadows", shadow)

    @staticmethod
    def shadows(endpoint: str = "") -> str:
        return _with_query("/shadows", {"endpoint": endpoint or None})

    @staticmethod
    def incident(incident: str) -> str:
        return _path("incidents", incident)

    @staticmethod
    def alert(alert: str) -> str:
        return _path("alerts", alert)

    @staticmethod
    def predictions(**query: str | int | None) -> str:
        return _with_query("/predictions", query)

    @staticmethod
    def lineage(object: str, **query: str | int | None) -> str:
        return _with_query(_path("lineage", object), query)

    @staticmethod
    def value(endpoint: str, **query: str | int | None) -> str:
        return _with_query(_path("endpoints", endpoint, "value"), query)

    @staticmethod
    def thresholds(endpoint: str) -> str:
        return _path("endpoints", endpoint, "thresholds")

    @staticmethod
    def proposal(proposal: str) -> str:
        return _path("proposals", proposal)

    @staticmethod
    def reviews(**query: str | int | None) -> str:
        return _with_query("/reviews", query)

    @staticmethod
    def claim(prediction: str) -> str:
        return _path("reviews", prediction, "claim")

    @staticmethod
    def release(prediction: str) -> str:
        return _path("reviews", prediction, "release")

    @staticmethod
    def answer(prediction: str) -> str:
        return _path("reviews", prediction, "answer")

    @staticmethod
    def prediction(prediction: str) -> str:
        return _path("predictions", prediction)


def _with_query(path: str, query: dict[str, str | int | None]) -> str:
    given = {name.replace("_", "-"): value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path


def _stamp() -> str:
    from hashlib import sha256
    from pathlib import Path

    digest = sha256()
    for file in sorted((Path(__file__).parent / "static").iterdir()):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:10]


STAMP: Final = _stamp()
