"""What commands and the hub ask about shadows that follow the log: begun, ended, and had follow."""

from typing import TYPE_CHECKING, Any, Final

from sampan.app.proposing import Proposing
from sampan.base.errors import Usage

if TYPE_CHECKING:
    from sampan.release.shadows import ShadowRecord, ShadowRecords
    from sampan.serve.assignment import Assignment
    from sampan.serve.follower import FollowerState
    from sampan.serve.following import Followed

_IN_FORCE: Final = "it is what the endpoint serves now"


class Shadowing(Proposing):
    """Lets candidates say what they would have said, as many as there are."""

    @property
    def shadows(self) -> "ShadowRecords":
        from sampan.release.shadows import ShadowRecords

        return self._part("shadows", lambda: ShadowRecords(self.db, self.clock))

    def begin_shadow(
        self,
        endpoint: str,
        model: str,
        decision: str,
        thresholds: dict[str, Any],
        sample: float,
        reason: str,
        actor: str,
    ) -> Any:
        """Have a candidate follow an endpoint's predictions from now on. Raises Usage where the two cannot be compared,
        Conflict where the same goes on already, NotFound, Refused, Damaged."""
        from msgspec import to_builtins

        from sampan.base.ids import new_id
        from sampan.release.shadows import ShadowRecord
        from sampan.serve.assignment import check
        from sampan.serve.stream import PREFIX

        attempted = f"Begin a shadow on {endpoint[:100]}"
        if not 0 < sample <= 1:
            raise Usage(attempted, f"a sample of {sample:g}", "Of the entities, a share: more than 0, at most 1.")
        with self._as_writer(attempted):
            now = self.endpoints.get(endpoint)
            with self._whole(attempted, actor, lambda: self._files_of(model or endpoint)):
                made = self.endpoints.draft(
                    endpoint,
                    model or endpoint,
                    workspace=self.folder.root,
                    decision=decision or None,
                    thresholds={**self._edited(endpoint), **thresholds},
                    actor=actor,
                    reason=reason,
                )
            stream = self.log.readers().get(PREFIX + endpoint)
            one = ShadowRecord(
                id=new_id(self.clock),
                endpoint=endpoint,
                bundle=made.bundle,
                spec=to_builtins(made.spec),
                sample=sample,
                stream=self.shadows.free_stream(endpoint),
                after=stream.last() if stream is not None else 0,
                actor=actor,
                reason=reason,
                began=self.clock.micros(),
            )
            bundles = self.endpoints.bundle(now.bundle), self.endpoints.bundle(made.bundle)
            check(endpoint, _assignment(one), *bundles)
            self.shadows.begin(one)
            self.settle_shadows()
            return self._shadow(one)

    def end_shadow(self, id: str, reason: str, actor: str) -> Any:
        """End a shadow; what it has said stays. Raises NotFound, Conflict, Usage without a reason."""
        with self._as_writer(f"End the shadow {id[:80]!r}"):
            one = self.shadows.end(id, reason, actor or "somebody")
            self.settle_shadows()
            return self._shadow(one)

    def settle_shadows(self) -> None:
        """Have those follow that the records say, and end those that are what is in force now. Raises what one cannot
        be loaded for, after the others follow."""
        wanted = []
        for one in self.shadows.active():
            now = self.endpoints.find(one.endpoint)
            if now is not None and now.bundle == one.bundle:
                self.shadows.end(one.id, _IN_FORCE)
            elif now is not None:
                wanted.append(_followed(one))
        if self._hub is not None:
            self._hub.follow(wanted)

    def followers(self) -> "dict[str, FollowerState]":
        """How shadows do, by their ids, as far as this process knows."""
        return {one.shadow: one for one in self._hub.serving.followers.status()} if self._hub is not None else {}

    def _shadow(self, one: "ShadowRecord") -> dict[str, Any]:
        from msgspec import to_builtins

        now = self.endpoints.get(one.endpoint)
        return {**to_builtins(one), "version": one.version, "champion": now.spec.version, "hub": self._hub is not None}


def _assignment(one: "ShadowRecord") -> "Assignment":
    from sampan.serve.assignment import Assignment

    return Assignment(rollout=one.id, stage=0, bundle=one.bundle, salt=one.id, shadow=True, sample=one.sample)


def _followed(one: "ShadowRecord") -> "Followed":
    from sampan.serve.following import Followed

    return Followed(endpoint=one.endpoint, assignment=_assignment(one), stream=one.stream, after=one.after)
