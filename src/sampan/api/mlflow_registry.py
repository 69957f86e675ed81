"""What MLflow's clients ask of the registry, said in the words of ``sampan.models``: one function a route.

What changes something goes through ``Work``, as it does for commands and pages.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from sampan.api import mlflow_registry_wire as wire
from sampan.api.mlflow_messages import MODELS, VERSIONS
from sampan.api.mlflow_wire import Nothing, Pair
from sampan.api.mlflow_written import pairs
from sampan.api.work import Work
from sampan.base.errors import NotFound, Usage
from sampan.base.ids import whole
from sampan.models.labels import NOTE, TAG, Label
from sampan.models.registry import Models, Registered
from sampan.models.version import Version
from sampan.track import page
from sampan.track.filter import Attributes, Comparison, Field, parse
from sampan.track.limits import shown
from sampan.track.matching import matching, ordered
from sampan.track.order import parse_orders

Route = tuple[str, str]
#: Given the request and who asks; the answer.
Doing = Callable[[Any, str], Any]
#: Where clients think that a version's files lie: the hub, which knows them by name and number.
ROOT: Final = "mlflow-artifacts:/versions"
_PROMPT: Final = "mlflow.prompt.is_prompt"
_MODELS: Final = Attributes(
    frozenset({"name"}),
    frozenset({"creation_timestamp", "last_updated_timestamp", "timestamp"}),
    frozenset({"tag", "attribute"}),
)
_VERSIONS: Final = Attributes(
    frozenset({"name", "run_id", "source_path"}),
    frozenset({"version_number", "creation_timestamp", "last_updated_timestamp"}),
    frozenset({"tag", "attribute"}),
)
_SOURCES: Final = (
    re.compile(r"models:/(?P<model>m-[\w-]{1,64})/?\Z"),
    re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<number>\d{1,18})|@(?P<alias>[\w-]+))\Z"),
    re.compile(r"runs:/(?P<run>[\w-]{1,64})(?:/(?P<path>.*))?\Z", re.DOTALL),
    re.compile(r"mlflow-artifacts:/\d{1,18}/models/(?P<model>[\w-]{1,64})/artifacts(?:/(?P<path>.*))?\Z", re.DOTALL),
    re.compile(r"mlflow-artifacts:/\d{1,18}/(?P<run>[\w-]{1,64})/artifacts(?:/(?P<path>.*))?\Z", re.DOTALL),
    re.compile(r"mlflow-artifacts:/versions/(?P<name>[^/]+)/(?P<number>\d{1,18})/?\Z"),
)


class MlflowRegistry:
    """Does what the messages about registered models ask for."""

    def __init__(self, models: Models, work: Work) -> None:
        self._models, self._work = models, work
        post, get, patch, delete = "POST", "GET", "PATCH", "DELETE"
        self.done: Mapping[Route, Doing] = {
            (post, f"{MODELS}/create"): self._create,
            (get, f"{MODELS}/get"): self._get,
            (get, f"{MODELS}/search"): self._search,
            (patch, f"{MODELS}/update"): self._describe,
            (delete, f"{MODELS}/delete"): self._delete,
            (post, f"{MODELS}/get-latest-versions"): self._latest,
            (get, f"{MODELS}/get-latest-versions"): self._latest,
            (post, f"{MODELS}/set-tag"): self._tag,
            (delete, f"{MODELS}/delete-tag"): self._untag,
            (post, f"{MODELS}/alias"): self._set_alias,
            (get, f"{MODELS}/alias"): self._of_alias,
            (delete, f"{MODELS}/alias"): self._delete_alias,
            (post, f"{VERSIONS}/create"): self._register,
            (get, f"{VERSIONS}/get"): self._get_version,
            (get, f"{VERSIONS}/search"): self._search_versions,
            (patch, f"{VERSIONS}/update"): self._describe_version,
            (delete, f"{VERSIONS}/delete"): self._delete_version,
            (get, f"{VERSIONS}/get-download-uri"): self._download_uri,
            (post, f"{VERSIONS}/set-tag"): self._tag_version,
            (delete, f"{VERSIONS}/delete-tag"): self._untag_version,
            (post, f"{VERSIONS}/transition-stage"): _no_stages,
            (post, f"{MODELS}/rename"): _no_renaming,
        }

    # -- models

    def _create(self, one: wire.CreateRegisteredModel, actor: str) -> wire.OneModel:
        self._work.create_model(one.name, actor)
        if one.tags or one.description:
            tags = {pair.key: pair.value for pair in one.tags}
            self._work.label("model", one.name, tags, one.description or None, actor)
        return self._one(one.name)

    def _get(self, one: wire.ModelName, actor: str) -> wire.OneModel:
        return self._one(one.name)

    def _describe(self, one: wire.UpdateRegisteredModel, actor: str) -> wire.OneModel:
        self._work.label("model", one.name, {}, one.description, actor)
        return self._one(one.name)

    def _delete(self, one: wire.ModelName, actor: str) -> Nothing:
        self._work.delete_model(one.name, actor)
        return Nothing()

    def _latest(self, one: wire.LatestVersions, actor: str) -> wire.FoundVersions:
        if any(stage.lower() != "none" for stage in one.stages):
            raise Usage(
                "Find the latest versions",
                f"models have no stages here, so none in {shown(one.stages[0])}",
                "Stages are deprecated: ask for an alias, as models:/NAME@ALIAS does.",
            )
        self._models.find(one.name)
        return wire.FoundVersions(self._written(self._models.list(one.name)[:1]))

    def _tag(self, one: wire.ModelTag, actor: str) -> Nothing:
        self._work.label("model", one.name, {one.key: one.value}, None, actor)
        return Nothing()

    def _untag(self, one: wire.ModelTagKey, actor: str) -> Nothing:
        self._work.label("model", one.name, {one.key: None}, None, actor)
        return Nothing()

    def _search(self, one: wire.Search, actor: str) -> wire.FoundModels:
        labels = self._models.labels.all("model")

        def value(model: Registered, field: Field) -> Any:
            if field.entity == "tag":
                return _tags(labels.get(model.name, ())).get(field.key)
            times = {"creation_timestamp": model.created // 1000}
            return model.name if field.key == "name" else times.get(field.key, model.changed // 1000)

        comparisons = _asked(one.filter, _MODELS, "Search registered models")
        found = [] if comparisons is None else matching(self._models.registered(), comparisons, value)
        found = ordered(found, parse_orders(one.order_by, _MODELS), value)
        shown_, token = _page(found, one, "registered", 100, 1000)
        return wire.FoundModels([self._model(model, labels.get(model.name, ())) for model in shown_], token)

    # -- versions

    def _register(self, one: wire.CreateModelVersion, actor: str) -> wire.OneVersion:
        attempted = f"Register a version of {shown(one.name)}"
        if one.run_link:
            raise Usage(attempted, f"run_link {shown(one.run_link)} was given", "Leave it out: runs are here.")
        source = _source(attempted, one.source)
        if one.model_id and source.get("model") not in (None, one.model_id):
            raise Usage(attempted, f"model_id {shown(one.model_id)} is not that of the source", "Name one of them.")
        named = next((source[key] for key in ("number", "alias") if source.get(key)), "")
        made = self._work.register(
            one.name,
            source.get("run") or one.run_id,
            "" if named else source.get("model") or (one.model_id if not source.get("run") else ""),
            source.get("path") or "",
            f"{source['name']}@{named}" if named else "",
            actor,
        )
        if one.tags or one.description:
            tags: dict[str, str | None] = {pair.key: pair.value for pair in one.tags}
            ref = f"{one.name}@{made['number']}"
            self._work.label("version", ref, tags, one.description or None, actor)
        return self._version(one.name, str(made["number"]))

    def _get_version(self, one: wire.VersionName, actor: str) -> wire.OneVersion:
        return self._version(one.name, one.version)

    def _describe_version(self, one: wire.UpdateModelVersion, actor: str) -> wire.OneVersion:
        self._work.label("version", self._ref(one.name, one.version), {}, one.description, actor)
        return self._version(one.name, one.version)

    def _delete_version(self, one: wire.VersionName, actor: str) -> Nothing:
        self._work.delete_version(self._ref(one.name, one.version), actor)
        return Nothing()

    def _download_uri(self, one: wire.VersionName, actor: str) -> wire.DownloadUri:
        version = self._models.get(self._ref(one.name, one.version))
        return wire.DownloadUri(f"{ROOT}/{version.model}/{version.number}")

    def _tag_version(self, one: wire.VersionTag, actor: str) -> Nothing:
        self._work.label("version", self._ref(one.name, one.version), {one.key: one.value}, None, actor)
        return Nothing()

    def _untag_version(self, one: wire.VersionTagKey, actor: str) -> Nothing:
        self._work.label("version", self._ref(one.name, one.version), {one.key: None}, None, actor)
        return Nothing()

    def _search_versions(self, one: wire.Search, actor: str) -> wire.FoundVersions:
        labels = self._models.labels.all("version")

        def value(version: Version, field: Field) -> Any:
            if field.entity == "tag":
                return _tags(labels.get(version.ref, ())).get(field.key)
            known = {
                "name": version.model,
                "version_number": version.number,
                "run_id": version.origin.run if version.origin is not None else "",
                "source_path": source_of(version),
            }
            return known.get(field.key, version.created // 1000)

        comparisons = _asked(one.filter, _VERSIONS, "Search model versions")
        found = [] if comparisons is None else matching(self._models.list(), comparisons, value)
        found = ordered(found, parse_orders(one.order_by, _VERSIONS), value)
        shown_, token = _page(found, one, "versions", 10_000, 200_000)
        return wire.FoundVersions(self._written(shown_), token)

    # -- aliases

    def _set_alias(self, one: wire.SetAlias, actor: str) -> Nothing:
        self._ref(one.name, one.version)
        self._work.move_alias(one.name, one.alias, one.version, "", None, actor)
        return Nothing()

    def _of_alias(self, one: wire.AliasName, actor: str) -> wire.OneVersion:
        alias = self._models.aliases.find(one.name, one.alias)
        if alias is None:
            self._models.find(one.name)
            raise NotFound("Find an alias", f"Registered model alias {shown(one.alias)} of {one.name} not found")
        return self._version(one.name, str(alias.number))

    def _delete_alias(self, one: wire.AliasName, actor: str) -> Nothing:
        if self._models.aliases.find(one.name, one.alias) is not None:
            self._work.move_alias(one.name, one.alias, None, "", None, actor)
        return Nothing()

    # -- written

    def _ref(self, name: str, version: str) -> str:
        if whole(version) is None:
            raise Usage("Find a version", f"version {shown(version)} is no number", "Versions are numbered from 1.")
        return f"{name}@{version}"

    def _version(self, name: str, number: str) -> wire.OneVersion:
        return wire.OneVersion(self._written([self._models.get(self._ref(name, number))])[0])

    def _written(self, versions: Iterable[Version]) -> list[wire.ModelVersion]:
        versions = list(versions)
        labels = self._models.labels
        said = labels.all("version") if len(versions) > 1 else {v.ref: labels.of(f"version {v.ref}") for v in versions}
        aliases: dict[str, list[str]] = {}
        for one in self._models.aliases.list():
            aliases.setdefault(one.ref, []).append(one.alias)
        return [_written(one, said.get(one.ref, ()), aliases.get(one.ref, [])) for one in versions]

    def _one(self, name: str) -> wire.OneModel:
        return wire.OneModel(self._model(self._models.find(name), self._models.labels.of(f"model {name}")))

    def _model(self, model: Registered, said: Iterable[Label]) -> wire.RegisteredModel:
        said = list(said)
        return wire.RegisteredModel(
            model.name,
            model.created // 1000,
            max([model.changed, *(one.since for one in said)]) // 1000,
            model.actor,
            _note(said),
            self._written(self._models.list(model.name)[:1]),
            pairs(_tags(said)),
            [wire.AliasOf(one.alias, str(one.number)) for one in self._models.aliases.list(model.name)],
        )


def _no_stages(one: Nothing, actor: str) -> Nothing:
    raise Usage(
        "Move a version to a stage",
        "models have no stages here",
        "MLflow deprecates them: set_registered_model_alias names a version, and models:/NAME@ALIAS loads it.",
    )


def _no_renaming(one: Nothing, actor: str) -> Nothing:
    raise Usage(
        "Rename a registered model",
        "a version's name is part of its address, which others keep",
        "copy_model_version gives it another name beside this one.",
    )


def source_of(version: Version) -> str:
    """Where a version came from, as an address: a logged model or a run's artifacts; else its own files."""
    origin = version.origin
    if origin is None:
        return f"{ROOT}/{version.model}/{version.number}"
    if origin.adopted:
        return f"{ROOT}/{version.model}/{version.number}"
    return f"models:/{origin.model}" if origin.model else f"runs:/{origin.run}/{origin.path}".rstrip("/")


def _source(attempted: str, uri: str) -> dict[str, str]:
    """What an address of the hub's own names. Raises Usage for every other: nothing is fetched from anywhere."""
    for one in _SOURCES:
        if found := one.match(uri):
            return {key: value for key, value in found.groupdict().items() if value}
    raise Usage(
        attempted,
        f"the source {shown(uri)} is none of the hub's",
        "Log the model here first, and register models:/m-…, runs:/RUN/PATH or models:/NAME/NUMBER.",
    )


def _asked(filter: str, attributes: Attributes, attempted: str) -> list[Comparison] | None:
    """The comparisons of a filter. Clients leave prompts out, of which there are none; None if they ask for those."""
    found = []
    for one in parse(filter, attributes, attempted):
        if one.field == Field("tag", _PROMPT):
            if one.comparator == "=" and one.value == "true":
                return None
        else:
            found.append(one)
    return found


def _page(found: list[Any], one: wire.Search, what: str, usual: int, most: int) -> tuple[list[Any], str]:
    limit = one.max_results or usual
    if not 1 <= limit <= most:
        raise Usage("Search", f"invalid value {limit} for max_results", f"It lies between 1 and {most}.")
    asked = page.question(what, one.filter, one.order_by)
    place = page.place_of(one.page_token, asked)
    start = page.number(place.after[0] if place is not None and place.after else 0)
    more = page.token(page.Place(asked, [start + limit])) if len(found) > start + limit else ""
    return found[start : start + limit], more


def _tags(said: Iterable[Label]) -> dict[str, str]:
    return {one.key: one.value for one in said if one.kind == TAG}


def _note(said: Iterable[Label]) -> str:
    return next((one.value for one in said if one.kind == NOTE), "")


def _written(version: Version, said: Iterable[Label], aliases: list[str]) -> wire.ModelVersion:
    said = list(said)
    run = version.origin.run if version.origin is not None else ""
    metrics = [
        wire.ModelMetric(key, float(value), run)
        for key, value in version.metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return wire.ModelVersion(
        name=version.model,
        version=str(version.number),
        creation_timestamp=version.created // 1000,
        last_updated_timestamp=max([version.created, *(one.since for one in said)]) // 1000,
        user_id=version.actor,
        description=_note(said),
        source=source_of(version),
        run_id=run,
        model_id=version.origin.model if version.origin is not None else "",
        tags=[Pair(key, value) for key, value in _tags(said).items()],
        aliases=aliases,
        model_metrics=metrics,
    )
