"""What commands and the hub ask about deciding: endpoints, and the alerts and tokens of who looks after them."""

from typing import TYPE_CHECKING, Any

from sampan.app.workplace import Workplace
from sampan.base.errors import NotFound

if TYPE_CHECKING:
    from sampan.hub.pulse import Pulse
    from sampan.watch.alerts import Compose


class Deciding(Workplace):
    """Deploys what decides; tells people, and lets them in."""

    def deploy(self, name: str, model: str, decision: str, thresholds: dict[str, Any], reason: str, actor: str) -> Any:
        """Put a version, with the workspace's rules for it, in force under a name."""
        import msgspec

        root = self.folder.root
        with self._as_writer(f"Deploy {name}"):
            made = self.endpoints.deploy(
                name,
                model or name,
                workspace=root,
                decision=decision or None,
                thresholds=thresholds,
                actor=actor,
                reason=reason,
            )
        if self._hub is not None:
            self._hub.switch(name)
        found = msgspec.to_builtins(made)
        return {**found.pop("spec"), **found}

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

    @property
    def pulse(self) -> "Pulse | None":
        """How many events come in per second, which only a running hub knows."""
        return self._hub.pulse if self._hub is not None else None
