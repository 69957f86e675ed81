"""What commands and the hub ask about deciding: endpoints, and the alerts and tokens of who looks after them."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sampan.app.checking import Checking
from sampan.base.errors import NotFound, Usage

if TYPE_CHECKING:
    from sampan.app.checking import Named
    from sampan.hub.pulse import Pulse
    from sampan.serve.endpoints import Endpoint
    from sampan.serve.scoring import Batch
    from sampan.watch.alerts import Compose

    Ask = Callable[[list[dict[str, Any]]], Batch]


class Deciding(Checking):
    """Deploys what decides, and goes back; tells people, and lets them in."""

    def __init__(self, start: Path | None = None) -> None:
        super().__init__(start)
        self._switching: dict[str, threading.Lock] = {}
        self._loaded: dict[str, Named] = {}  # files of bundles that are looked at again and again

    def deploy(
        self,
        name: str,
        model: str,
        decision: str,
        thresholds: dict[str, Any],
        reason: str,
        actor: str,
        without_golden: bool = False,
    ) -> Any:
        """Put a version, with the workspace's rules for it, in force under a name, if the process that will serve it
        answers its golden requests as they were answered in training. Raises Refused if it does not."""
        if without_golden and not reason.strip():
            raise Usage(f"Deploy {name}", "it was asked to leave golden requests out without a reason", "Say why.")
        ref, attempted = model or name, f"Deploy {model or name} as {name}"[:200]
        with self._as_writer(f"Deploy {name}"), self._whole(attempted, actor, lambda: self._files_of(ref)):
            before = self.endpoints.find(name)
            made = self.endpoints.draft(
                name,
                ref,
                workspace=self.folder.root,
                decision=decision or None,
                thresholds=thresholds,
                actor=actor,
                reason=reason,
            )
            if before is not None and before.bundle == made.bundle:
                return self._told(before)
            return self._told(
                self._put_in_force(made, before, lambda ask: self._prove(made, actor, without_golden, ask))
            )

    def _told(self, made: "Endpoint") -> dict[str, Any]:
        """What was deployed, where it is asked, and what of its rules has no effect."""
        from sampan.serve.previous import previous

        _, why = previous(self.endpoints, made.name)
        warning = {"warning": f"fallback=PREVIOUS has no effect: {why}"} if why else {}
        return {**_flat(made), "address": self.serving_address(made.name), **warning}

    def _prove(self, made: "Endpoint", actor: str, without: bool, ask: "Ask | None") -> "Endpoint":
        """Ask the golden requests of what is about to be in force; gives it with what came of that."""
        import msgspec

        from sampan.models.golden import read
        from sampan.models.golden_checks import GoldenChecks
        from sampan.serve.proven import prove, refuse
        from sampan.serve.score import scorer

        bundle = self.endpoints.bundle(made.bundle)
        golden = self.models.get(bundle.version).golden
        if golden is None or without:
            said = "golden requests were not asked" if golden else "the version has no golden requests"
            return msgspec.structs.replace(made, golden=said)
        requests = read(self.blobs.get(golden.digest))
        if ask is not None:
            proven = prove(bundle, requests, ask)
        else:
            with scorer(bundle, self.blobs, f"the golden requests of {bundle.version}") as process:
                proven = prove(bundle, requests, process.batch)
        GoldenChecks(self.db).add(proven.check, actor=actor, clock=self.clock)
        if not proven.check.same:
            raise refuse(proven, made.name)
        return msgspec.structs.replace(made, golden=proven.says())

    def rollback(self, name: str, to: str, reason: str, actor: str) -> Any:
        """Put a bundle in force again that an endpoint served before: the one before, or that of a time, or the one
        whose digest begins so. Model, rules and thresholds go back together; aliases stay."""
        begun = time.perf_counter()
        with self._as_writer(f"Roll back {name[:100]}"):
            now, then = self.endpoints.get(name), self._then(name, to)
            changed = then.bundle != now.bundle
            warm = changed and self._hub is not None and then.bundle in self._hub.serving.warm(name)
            told: dict[str, Any] = {"from_version": now.spec.version, "changed": changed, "warm": warm}
            if not changed:
                return {**_flat(now), **told, "seconds": 0.0}
            back = self.endpoints.back(now, then, actor=actor, reason=reason)
            attempted = f"Roll {name} back to {then.spec.version}"
            with self._whole(attempted, actor, lambda: self._files_in(then.bundle), first=not warm):
                if self._hub is None:
                    self.endpoints.try_out(then.bundle)
                made = self._put_in_force(back, now)
            if warm and (said := self._from_memory(attempted, actor, *self._files_in(then.bundle))):
                told["warning"] = said
            return {**_flat(made), **told, "seconds": round(time.perf_counter() - begun, 3)}

    def _then(self, name: str, to: str) -> "Endpoint":
        """What a rollback would put in force. Raises NotFound, Usage."""
        from sampan.serve.endpoints import looks_like_a_digest

        if not to:
            return self.endpoints.before(name)
        return self.endpoints.named(name, to) if looks_like_a_digest(to) else self.endpoints.get(name, self.instant(to))

    def _put_in_force(
        self,
        made: "Endpoint",
        before: "Endpoint | None",
        prove: "Callable[[Ask | None], Endpoint] | None" = None,
        still_loaded: bool = False,
    ) -> "Endpoint":
        """Write it down once the hub has it loaded and it is proven, and have the hub serve it. ``still_loaded``: from
        when it was in force. Raises what it failed with, Conflict, and what ``prove`` raises."""
        hub = self._hub
        if hub is None:
            return self.endpoints.add(prove(None) if prove else made, before)
        loaded = hub.load(made)
        try:
            made = prove(lambda records: hub.try_out(loaded, records)) if prove else made
        except BaseException:
            hub.spare(made, loaded, keep=False)
            raise
        with self._switching.setdefault(made.name, threading.Lock()):  # in the order in which they are written down
            try:
                made = self.endpoints.add(made, before, still_loaded=still_loaded)
            except BaseException:
                hub.spare(made, loaded)
                raise
            hub.switch(made, loaded)
        return made

    def look_at_served(self, seen: dict[str, tuple[Any, str]]) -> None:
        """Write down damage of what is in force and of what is kept ready to go back to, while it is still in memory.
        ``seen``: as ``damages`` has it."""
        from sampan.models.damages import Damages

        records = Damages(self.db)
        known = {(one.version, one.digest) for one in records.open()}
        for endpoint in self.endpoints.list():
            for bundle in (endpoint.bundle, *self.warm_bundles(endpoint.name)):
                version, files = self._files_of_loaded(bundle)
                bad = {name: (one, said) for name, one in files.items() if (said := self._fault(one, seen))}
                if new := {name: one for name, one in bad.items() if (version, one[0]) not in known}:
                    records.add(version, new, f"Keep {endpoint.name} ready to start anew", "sampan", self.clock)

    def _files_of_loaded(self, bundle: str) -> "Named":
        if bundle not in self._loaded and not self.blobs.fault(bundle):
            self._loaded[bundle] = self._files_in(bundle)
        return self._loaded.get(bundle) or self._files_in(bundle)

    def recompute(self, prediction: str) -> Any:
        """Make a prediction once more, as it was made, and say whether it comes out the same."""
        import msgspec

        from sampan.serve.recompute import recompute

        event = self.log.find(prediction, type="prediction")
        if event is None:
            raise NotFound(
                f"Recompute prediction {prediction[:100]!r}",
                "none has this id",
                "`sampan log tail --type prediction` shows the newest.",
            )
        return msgspec.to_builtins(recompute(event, self.endpoints, self.blobs, self.folder.data / "tmp"))

    def compose(self, url: str = "") -> "Compose":
        """Makes messages about alerts, with links to the hub at an address unless a public one is set."""
        from sampan.watch.alerts import Compose

        return Compose(self.folder.root.name, (self.settings.get("public_url") or url).rstrip("/"))

    def test_alerts(self, targets: list[str]) -> dict[str, str]:
        """Send a test to targets (all, if none are named); gives what went wrong with each, or nothing."""
        if self._hub is not None:
            return self._hub.watch.test(targets)
        from sampan.watch.watch import test

        return test(self.tellers(), self.compose(), self.clock.micros(), targets)

    def silence(self, what: str, seconds: float, reason: str, actor: str) -> Any:
        """Keep quiet about a kind of alert, or one alert's key, for a while."""
        import msgspec

        from sampan.watch.alerts import Alerts

        with self._as_writer("Silence alerts"):
            made = Alerts(self.db, self.clock).silence(what, seconds, actor=actor, reason=reason)
            return msgspec.to_builtins(made)

    def unsilence(self, silence: str, actor: str) -> Any:
        """Take a silence back before its time."""
        import msgspec

        from sampan.watch.alerts import Alerts

        with self._as_writer("Take back a silence"):
            return msgspec.to_builtins(Alerts(self.db, self.clock).unsilence(silence, actor=actor))

    def tokens(self, as_of: str = "") -> Any:
        """Tokens without their secrets, as they are or as they were at a time."""
        import msgspec

        from sampan.base.clock import SystemClock
        from sampan.team.tokens import Tokens

        then = self.instant(as_of) if as_of else None
        return {"tokens": msgspec.to_builtins(Tokens(self.db, SystemClock()).list(then)), "as_of": then}

    def serving_state(self, name: str) -> str:
        """How an endpoint is doing, as far as this process knows."""
        return self._hub.state_of(name) if self._hub is not None else "unknown"

    def serving_address(self, name: str) -> str:
        """Where an endpoint is asked directly, as far as this process knows."""
        return self._hub.serving.address(name) if self._hub is not None else ""

    def warm_bundles(self, name: str) -> list[str]:
        """What an endpoint can go back to without loading it, as far as this process knows."""
        return self._hub.serving.warm(name) if self._hub is not None else []

    @property
    def pulse(self) -> "Pulse | None":
        """How many events come in per second, which only a running hub knows."""
        return self._hub.pulse if self._hub is not None else None


def _flat(made: "Endpoint") -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(made)
    return {**found.pop("spec"), **found}
