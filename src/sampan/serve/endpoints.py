"""Endpoints: which bundle each name serves, as an append-only history; the newest row of a name is in force."""

import re
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from sampan.base.clock import Clock, iso
from sampan.base.digests import digest_bytes
from sampan.base.errors import BadWorkspace, Conflict, Damaged, NotFound, Usage, revive
from sampan.base.ids import is_name, new_id
from sampan.base.settings import Folder
from sampan.base.sources import collect
from sampan.models.registry import Models
from sampan.models.signatures import Signatures
from sampan.models.signing import ENFORCE, WARN, Signed, Trust, read_trust
from sampan.models.version import Version, VersionDraft
from sampan.runs.records import Runs
from sampan.serve.bundle import Bundle, DecisionFacts, decode, draft_of
from sampan.serve.decisions import ENTRY
from sampan.store.database import Database

NO_RULES: Final = "none"  # in place of a decision's name
_EVER: Final = 1 << 62
_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{4,64}")
_SIGNATURES: Final = 20  # of a version that are looked at
_NAME_LIMIT: Final = 80  # its stream's name is a little longer


class EndpointSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader wants to know without opening the bundle."""

    version: str
    decision: str = ""
    thresholds: dict[str, bool | int | float | str] = {}
    currency: str = ""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One row of an endpoint's history. ``back_from``: the bundle that was left, where this one was gone back to.
    ``golden``: what came of its golden requests when it was deployed."""

    id: str
    name: str
    bundle: str
    spec: EndpointSpec
    actor: str
    reason: str
    created: int
    back_from: str = ""
    golden: str = ""


EndpointList: TypeAlias = list[Endpoint]


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial load of a bundle found (``sampan.serve.trial``)."""

    decisions: list[DecisionFacts] = []
    error: dict[str, str] | None = None


class Endpoints:
    """The endpoints of a workspace. Writing needs the records' lock; reading does not."""

    def __init__(self, db: Database, models: Models, clock: Clock, load_timeout: float = 60) -> None:
        """``load_timeout``: seconds that loading a bundle for the first time may take."""
        self._db = db
        self._models = models
        self._blobs = models.blobs
        self._clock = clock
        self._load_timeout = load_timeout

    def deploy(
        self,
        name: str,
        ref: str,
        *,
        workspace: Path,
        decision: str | None = None,
        thresholds: Mapping[str, Any] | None = None,
        actor: str,
        reason: str = "",
    ) -> Endpoint:
        """Bundle a version with the workspace's rules for its model and put it in force.

        The bundle is loaded once in a process of its own; one that does not load is not deployed. ``decision`` picks
        a rule function where several are declared for the model. The same bundle again changes nothing.
        """
        current = self.find(name)
        made = self.draft(
            name, ref, workspace=workspace, decision=decision, thresholds=thresholds, actor=actor, reason=reason
        )
        return current if current is not None and current.bundle == made.bundle else self.add(made, current)

    def draft(
        self,
        name: str,
        ref: str,
        *,
        workspace: Path,
        decision: str | None = None,
        thresholds: Mapping[str, Any] | None = None,
        actor: str,
        reason: str = "",
    ) -> Endpoint:
        """As ``deploy``, but not in force until ``add`` writes it down."""
        attempted = f"Deploy {ref} as {name}"
        check_endpoint(attempted, name)
        self.demand(self._models.get(ref))
        bundle = self.make_bundle(ref, workspace=workspace, decision=decision, thresholds=thresholds)
        return self.of_bundle(name, bundle, actor=actor, reason=reason)

    def with_thresholds(self, digest: str, thresholds: Mapping[str, Any]) -> Bundle:
        """A bundle like another but for thresholds of its rule. Raises Usage for one that it has not, or of another
        type."""
        bundle = self.bundle(digest)
        if bundle.decision is None:
            said = f"what serves {bundle.version} there has no rule"
            raise Usage("Change thresholds", said, f"Declare one in {ENTRY}, and deploy it.")
        facts = msgspec.structs.replace(bundle.decision, thresholds=_merge(bundle.decision, thresholds))
        return msgspec.structs.replace(bundle, decision=facts)

    def of_bundle(self, name: str, bundle: Bundle, *, actor: str, reason: str = "") -> Endpoint:
        """A bundle under a name, kept; not in force until ``add`` writes it down. Raises Refused for a version that
        must not serve."""
        self.demand(bundle)
        digest = self._blobs.put(bundle.encode())
        spec = EndpointSpec(version=bundle.version)
        if bundle.decision is not None:
            spec = EndpointSpec(
                version=bundle.version,
                decision=bundle.decision.name,
                thresholds=bundle.decision.thresholds,
                currency=bundle.decision.currency,
            )
        return Endpoint(
            id=new_id(self._clock),
            name=name,
            bundle=digest,
            spec=spec,
            actor=actor,
            reason=reason,
            created=self._clock.micros(),
        )

    def back(
        self, now: Endpoint, then: Endpoint, *, actor: str, reason: str = "", still_loaded: bool = False
    ) -> Endpoint:
        """What goes back from what is in force to what was; not in force until ``add`` writes it down. Raises Refused
        for a version that must not serve, unless it is ``still_loaded``."""
        if not still_loaded:
            self.demand(then.bundle)
        return msgspec.structs.replace(
            then,
            id=new_id(self._clock),
            actor=actor,
            reason=reason,
            created=self._clock.micros(),
            back_from=now.bundle,
            golden="",
        )

    def add(self, made: Endpoint, after: Endpoint | None, *, still_loaded: bool = False) -> Endpoint:
        """Put it in force. Raises Conflict if ``after`` is not what is in force any more, and Refused for a version
        that must not serve, unless it is ``still_loaded``."""
        if not still_loaded:
            self.demand(made.bundle)
        made = msgspec.structs.replace(made, created=self._clock.micros())
        with self._db.transaction() as connection:
            current = self.find(made.name)
            if (current and current.id) != (after and after.id):
                now = current.spec.version if current else "nothing"
                raise Conflict(f"Switch {made.name}", f"{now} has come into force meanwhile", "Look, and try again.")
            connection.execute(
                "INSERT INTO endpoints (id, name, bundle, spec, actor, reason, created, back_from, golden)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(made.id, made.name, made.bundle, msgspec.json.encode(made.spec).decode(), made.actor),
                    *(made.reason, made.created, made.back_from, made.golden),
                ),
            )
        return made

    def trust(self) -> Trust:
        """What sampan.toml asks of versions now. Raises BadSetting."""
        return read_trust(Folder(self._blobs.folder.parent.parent))

    def signatures(self, bundle: Bundle) -> tuple[Signed, ...]:
        """The signatures of a bundle's version, the newest of those that count first. Raises BadSetting."""
        model, _, number = bundle.version.rpartition("@")
        found, keys = Signatures(self._db, self._clock).list(model, int(number)), self.trust().keys
        return tuple(sorted(found, key=lambda one: one.key not in keys)[:_SIGNATURES])

    def demand(self, what: Bundle | Version | str) -> None:
        """Raises Refused for a version, or the bundle of a digest, that must not serve, as long as sampan.toml asks for
        signatures; BadSetting."""
        trust = self.trust()
        if trust.mode == ENFORCE:
            if isinstance(what, Version):
                what = Bundle(version=what.ref, model=what.draft())
            bundle = self.bundle(what) if isinstance(what, str) else what
            trust.demand(bundle.version, bundle.model, self.signatures(bundle))

    def warning(self, bundle: Bundle) -> str:
        """What is to be said of a version that serves although no trusted key has signed it; empty where nothing is."""
        trust = self.trust()
        found = trust.standing(bundle.version, bundle.model, self.signatures(bundle)) if trust.mode == WARN else None
        return "" if found is None or found.valid else found.said

    def before(self, name: str) -> Endpoint:
        """What was in force before what is: where it was gone back to, what had been before that, so that going back
        twice leads further back and never forward again. Raises NotFound if there is nothing."""
        stack: list[Endpoint] = []
        for one in reversed(self.history(name)):
            if one.back_from and any(earlier.bundle == one.bundle for earlier in stack):
                while stack[-1].bundle != one.bundle:
                    stack.pop()
            else:
                stack.append(one)
        if len(stack) < 2:
            now = self.get(name)
            raise NotFound(
                f"Go back from {now.spec.version} on {name}",
                f"nothing was in force before it (bundle {now.bundle[:12]})",
                f"`sampan endpoint show {name}` lists what has been; --to BUNDLE names one of them.",
            )
        return stack[-2]

    def named(self, name: str, digest: str) -> Endpoint:
        """The newest row of a history whose bundle begins so. Raises NotFound, and Usage where several bundles do."""
        attempted = f"Find a bundle of {name}"
        rows = self.history(self.get(name).name)
        found = {one.bundle: one for one in reversed(rows) if one.bundle.startswith(digest.lower())}
        if not found:
            known = ", ".join(dict.fromkeys(one.bundle[:12] for one in rows))
            obstacle = f"none that it has served begins with {digest[:64]!r}"
            raise NotFound(attempted, obstacle, f"There are {known}. A time looks like 2026-01-31T12:30.")
        if len(found) > 1:
            several = ", ".join(one[:16] for one in found)
            raise Usage(attempted, f"{digest[:64]!r} begins several: {several}", "Write more of it.")
        return next(iter(found.values()))

    def try_out(self, bundle: str) -> None:
        """Load a bundle once, in a process of its own. Raises what it failed with."""
        found = self.bundle(bundle)
        self._try(found, found.version)

    def make_bundle(
        self,
        ref: str,
        *,
        workspace: Path,
        decision: str | None = None,
        thresholds: Mapping[str, Any] | None = None,
        rules_only: bool = False,
    ) -> Bundle:
        """A bundle whose files are kept and which has been loaded once. Nothing serves it yet.

        ``rules_only``: its model is not loaded, for somebody who will do so next.
        """
        version = self._models.get(ref)
        files = collect(workspace, ENTRY)
        sources = {path: self._blobs.put(data) for path, data in files.items()}
        carried: dict[str, Any] = {"model": _model_of(version, workspace), "environment": self._lock(version)}
        bare = Bundle(version=version.ref, sources=sources, **carried)
        declared = [one for one in self._try(bare, ref, rules_only) if one.model == version.model]
        chosen = _choose(declared, decision, version.model)
        if chosen is None:
            if thresholds:
                raise Usage(
                    f"Bundle {version.ref}", f"threshold {next(iter(thresholds))!r} without a decision", f"See {ENTRY}."
                )
            return Bundle(version=version.ref, **carried)
        merged = _merge(chosen, thresholds or {})
        facts = msgspec.structs.replace(chosen, thresholds=merged)
        return Bundle(version=version.ref, decision=facts, sources=sources, **carried)

    def _lock(self, version: Version) -> str | msgspec.UnsetType:
        """The environment that its run recorded, kept; none for a version that no run made."""
        lock = self._lock_bytes(version)
        return msgspec.UNSET if lock is None else self._blobs.put(lock)

    def _lock_bytes(self, version: Version) -> bytes | None:
        from sampan.serve.environment import lock_of

        if version.run is None:
            return None
        try:
            lock = lock_of(Runs(self._db).get(version.run).manifest, version.made_with)
        except NotFound:
            return None
        return None if lock is None else msgspec.json.encode(lock, order="sorted")

    def beside(self, version: Version, workspace: Path) -> dict[str, str]:
        """What is bundled with a version beside its own files: digests by name. Nothing is kept for that."""
        found = {path: digest_bytes(data) for path, data in collect(workspace, ENTRY).items()}
        lock = self._lock_bytes(version)
        return found if lock is None else {**found, "lock": digest_bytes(lock)}

    def declared(self, bundle: Bundle) -> tuple[DecisionFacts, ...]:
        """The decisions of a bundle's source, with their default thresholds; read in a process of its own."""
        return self._try(bundle, bundle.version, rules_only=True)

    def find(self, name: str, by: int | None = None) -> Endpoint | None:
        """What is in force under a name; ``by``: what was at that instant (microseconds)."""
        return next(iter(self.history(name, by, limit=1)), None)

    def get(self, name: str, by: int | None = None) -> Endpoint:
        """As ``find``; raises NotFound."""
        found = self.find(name, by)
        if found is None:
            attempted, known = f"Find the endpoint {name!r}", ", ".join(one.name for one in self.list(by)) or "none yet"
            if by is not None and (first := self.history(name)[-1:]):
                obstacle = f"it was first deployed at {iso(first[0].created)}"
                raise NotFound(f"{attempted} as of {iso(by)}", obstacle, f"Endpoints then: {known}.")
            raise NotFound(attempted, "there is none of that name", f"Endpoints: {known}.")
        return found

    def list(self, by: int | None = None) -> EndpointList:
        """What is in force under each name; ``by``: what was at that instant."""
        sql = "SELECT * FROM endpoints WHERE created <= ? ORDER BY created, rowid"
        newest = {row["name"]: row for row in self._db.rows(sql, (_EVER if by is None else by,))}
        return [_endpoint(newest[name]) for name in sorted(newest)]

    def history(self, name: str, by: int | None = None, limit: int = -1) -> EndpointList:
        """All that a name ever served, or had by an instant, newest first."""
        sql = "SELECT * FROM endpoints WHERE name = ? AND created <= ? ORDER BY created DESC, rowid DESC LIMIT ?"
        return [_endpoint(row) for row in self._db.rows(sql, (name, _EVER if by is None else by, limit))]

    def deployed(self, name: str, bundle: str, by: int) -> Endpoint | None:
        """How a bundle that a name served at an instant had come into force: who deployed it, when and why."""
        return next((one for one in self.history(name, by) if one.bundle == bundle), None)

    def bundle(self, digest: str) -> Bundle:
        """A bundle by its digest."""
        return decode(self._blobs.get(digest))

    def once_served(self, digest: str) -> Bundle:
        """A bundle that has answered under some name, now or before. Raises NotFound for any other."""
        if self._db.row("SELECT 1 FROM bundles WHERE bundle = ? LIMIT 1", (digest,)) is None:
            raise NotFound("Open a bundle", f"no endpoint has ever served the bundle {digest[:64]!r}")
        return self.bundle(digest)

    def _try(self, bundle: Bundle, ref: str, rules_only: bool = False) -> tuple[DecisionFacts, ...]:
        """Load a bundle in a process of its own, which is where the user's rules are imported."""
        from sampan.serve.environment import ONE_THREAD, python_for, variables

        python = sys.executable if rules_only else python_for(bundle, self._blobs)
        command = [python, "-P", "-m", "sampan.serve.trial", str(self._blobs.folder.resolve())]
        command += ["rules"] if rules_only else []
        environment = {**variables(python), **ONE_THREAD}
        limit = self._load_timeout
        try:
            done = subprocess.run(
                command, input=bundle.encode(), capture_output=True, timeout=limit, env=environment, check=False
            )
        except subprocess.TimeoutExpired:
            advice = f"See what {ENTRY} does while it is imported; the setting load_timeout allows for more."
            raise Damaged(f"Load {ref}", f"it took more than {limit:g} s", advice) from None
        try:
            loaded = msgspec.json.decode(done.stdout, type=Loaded)
        except msgspec.DecodeError:
            said = done.stderr.decode(errors="replace").strip()[-500:] or "nothing"
            raise Damaged(f"Load {ref}", f"the process ended with {done.returncode}", f"It last said: {said}") from None
        if loaded.error:
            raise revive(loaded.error)
        return tuple(loaded.decisions)


def _model_of(version: Version, workspace: Path) -> VersionDraft:
    """What a bundle carries of a version: its ONNX form, too, where that is to answer."""
    from sampan.models.onnx_form import servable

    draft, form = draft_of(version), servable(version)
    wanted = form is not None and Folder(workspace).settings().yes("serve_onnx")
    return msgspec.structs.replace(draft, onnx=form) if wanted else draft


def check_endpoint(attempted: str, name: str) -> None:
    """Raises Usage for what is no endpoint's name."""
    if not is_name(name) or len(name) > _NAME_LIMIT:
        raise Usage(attempted, f"{name[:100]!r} is no name", f"Use up to {_NAME_LIMIT} letters, digits, _ and -.")


def looks_like_a_digest(text: str) -> bool:
    """Whether somebody means a bundle by it, and not a time."""
    return _DIGEST.fullmatch(text) is not None


def _choose(declared: list[DecisionFacts], name: str | None, model: str) -> DecisionFacts | None:
    if name is not None:
        for one in declared:
            if one.name == name:
                return one
        if name == NO_RULES:
            return None
        known = ", ".join(one.name for one in declared) or "none"
        raise NotFound(f"Find the decision {name!r}", f"{ENTRY} declares none for {model}", f"Its decisions: {known}.")
    if len(declared) > 1:
        raise BadWorkspace(
            f"Choose a decision for {model}",
            f"{ENTRY} declares several: {', '.join(one.name for one in declared)}",
            "Name one with --decision.",
        )
    return declared[0] if declared else None


def _merge(facts: DecisionFacts, changes: Mapping[str, Any]) -> dict[str, Any]:
    from sampan.serve.decisions import merge_thresholds

    return merge_thresholds(facts.name, facts.thresholds, changes)


def _endpoint(row: sqlite3.Row) -> Endpoint:
    try:
        spec = msgspec.json.decode(row["spec"], type=EndpointSpec)
    except msgspec.DecodeError as error:
        raise Damaged(f"Read the endpoint {row['name']}", f"its record does not parse: {error}") from error
    return Endpoint(
        id=row["id"],
        name=row["name"],
        bundle=row["bundle"],
        spec=spec,
        actor=row["actor"],
        reason=row["reason"],
        created=row["created"],
        back_from=row["back_from"],
        golden=row["golden"],
    )
