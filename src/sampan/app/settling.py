"""Rollouts are looked at, and what the state of each asks for is put in force.

What a rollout comes to is written down first and done after: a hub that is killed in between does it when it starts
(``settle``), so no state of a rollout is ever lost or half done.
"""

import threading
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sampan.app.deciding import Deciding
from sampan.app.testing import Testing
from sampan.base.errors import Refused, SampanError

if TYPE_CHECKING:
    from sampan.release.looking import Looking
    from sampan.release.records import Begun
    from sampan.release.stages import Move, Seen, State
    from sampan.serve.assignment import Assignment
    from sampan.serve.endpoints import Endpoint

_KEPT: Final = 500  # what was seen is written down where the time since last has grown by a part in this
_SOONEST: Final = 5_000_000  # microseconds, and not more often than that
_BY: Final = "rollout"  # who puts a candidate in force when nobody has said so


class Stuck(NamedTuple):
    """What a rollout comes to and could not be done. ``back``: it is to be taken back."""

    candidate: str
    back: bool
    says: str
    advice: str


class Settling(Deciding, Testing):
    """Looks at rollouts, and puts in force what their states ask for."""

    def __init__(self, start: Path | None = None) -> None:
        super().__init__(start)
        self._seen: dict[str, Seen] = {}  # of each rollout what this process last saw
        self._kept: dict[str, int] = {}  # and when that was last written down
        #: By endpoint what could not be done; it is tried again at each look.
        self.stuck: dict[str, Stuck] = {}
        self._leading: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)  # one at a time, by endpoint

    def lead(self, begun: "Begun", whole: bool) -> None:
        """Look at a rollout and do what follows. ``whole``: at the KPI too, and not only at how it answers."""
        from msgspec.structs import replace

        from sampan.release.stages import ENDS
        from sampan.release.stages import step as follow

        state, number = self.rollouts.state(begun)
        if state.phase in ENDS:
            return
        self.settle(begun, state)
        looking = self._looking(begun, state)
        seen = looking.whole(self.clock.micros()) if whole else looking.quick(self.clock.micros())
        seen = replace(seen, crashing=self._crashing(begun))
        with self._leading[begun.endpoint]:
            state, number = self.rollouts.state(begun)
            move = follow(begun.plan, state, seen)
            moved = (move.state.phase, move.state.stage) != (state.phase, state.stage)
            if not (whole or moved):
                return
            self.stuck.pop(begun.endpoint, None)
            self._demand(begun, state, move.state)
            self._seen[begun.id] = seen
            since = seen.at - self._kept.get(begun.id, begun.began)
            if moved or since >= max(_SOONEST, (seen.at - begun.began) // _KEPT) or begun.id not in self._kept:
                self._write(begun, state, number, seen, move)
                self._kept[begun.id] = seen.at
            if moved:
                self.settle(begun, move.state)

    def lead_back(self, endpoint: str) -> None:
        """Take back once more what could not be taken back."""
        begun = next(iter(self.rollouts.list(endpoint)), None)
        now = self.endpoints.find(endpoint)
        if begun is None or now is None or now.bundle != begun.candidate:
            self.stuck.pop(endpoint, None)  # somebody has deployed since
        else:
            self.settle(begun, self.rollouts.state(begun)[0])

    def settle(self, begun: "Begun", state: "State") -> None:
        """Put in force what a state asks for, as far as it is not."""
        with self._leading[begun.endpoint]:
            self._settle(begun, state)

    def settle_all(self) -> None:
        """What a hub does when it starts: the newest rollout of each endpoint, unless somebody has deployed since.
        Raises what the first failed with, after all were tried."""
        from sampan.release.stages import ENDS

        done = set()
        failures: list[Exception] = []
        for begun in self.rollouts.list():
            if begun.endpoint in done:
                continue
            done.add(begun.endpoint)
            line = self.rollouts.lines(begun)[-1]
            now = self.endpoints.find(begun.endpoint)
            if now is not None and (line.phase not in ENDS or now.created <= line.at):
                try:
                    self.settle(begun, self.rollouts.state(begun)[0])
                except Exception as error:  # noqa: BLE001 - another endpoint's rollout goes on
                    failures.append(error)
        if failures:
            raise failures[0]

    def last_seen(self, rollout: str) -> "Seen | None":
        """What this process last saw of a rollout, which need not be written down."""
        return self._seen.get(rollout)

    def assigned(self) -> "dict[str, Assignment]":
        """What candidates answer or see, by endpoint, as the records say."""
        found = {}
        for endpoint in self.endpoints.list():
            if (begun := self.rollouts.active(endpoint.name)) is not None:
                one = self._assignment(begun, self.rollouts.state(begun)[0])
                if one is not None and endpoint.bundle != begun.candidate:
                    found[endpoint.name] = one
        return found

    def _settle(self, begun: "Begun", state: "State") -> None:
        from sampan.release.rollouts import span
        from sampan.release.stages import DONE, ENDS, FULL

        now = self.endpoints.get(begun.endpoint)
        if state.phase in (FULL, DONE):
            if now.bundle == begun.champion:
                self._put_in_force(self._candidate(begun, state), now)
            lasts = state.since + span(begun.plan.keep_warm) - self.clock.micros()
            if state.phase == FULL and self._hub is not None and lasts > 0:
                self._hub.keep_warm(begun.endpoint, begun.champion, lasts / 1e6)
            return
        if state.phase in ENDS:
            self._assign(begun, None)
            if now.bundle == begun.candidate:
                try:
                    self._take_back(begun, state, now)
                except SampanError as error:
                    self.stuck[begun.endpoint] = Stuck(begun.versions[1], True, error.obstacle, error.advice)
                    raise
            self.stuck.pop(begun.endpoint, None)
            return
        self._assign(begun, state)

    def _take_back(self, begun: "Begun", state: "State", now: "Endpoint") -> None:
        """Have an endpoint go back to the champion. A process of its that is still loaded takes no signature: like what
        serves when signatures are first asked for, it goes on until it starts anew."""
        then = next(one for one in self.endpoints.history(begun.endpoint) if one.bundle == begun.champion)
        there = self._hub is not None and begun.champion in self._hub.serving.warm(begun.endpoint)
        why = f"rollout {begun.id}: {state.why}"
        back = self.endpoints.back(now, then, actor=_BY, reason=why, still_loaded=there)
        self._put_in_force(back, now, still_loaded=there)

    def _assign(self, begun: "Begun", state: "State | None") -> None:
        """Have the hub let the candidate answer as a state says, or not at all."""
        wanted = self._assignment(begun, state)
        if self._hub is not None and wanted != self._hub.assigned(begun.endpoint):
            if wanted is not None:
                self.endpoints.demand(wanted.bundle)
            self._hub.assign(begun.endpoint, wanted)

    def _assignment(self, begun: "Begun", state: "State | None") -> "Assignment | None":
        from sampan.release.stages import Serve, Shadow, standing
        from sampan.serve.assignment import Assignment

        action = standing(begun.plan, state)[0] if state is not None else None
        shadow = isinstance(action, Shadow)
        share = action.share if isinstance(action, Serve) else 0.0
        sample = action.sample if isinstance(action, Shadow) else 1.0
        if state is None or not (shadow or 0 < share < 1):
            return None
        return Assignment(
            rollout=begun.id,
            stage=state.stage,
            bundle=begun.candidate,
            salt=begun.id,
            share=share,
            shadow=shadow,
            sample=sample,
        )

    def _candidate(self, begun: "Begun", state: "State") -> Any:
        import msgspec

        from sampan.base.ids import new_id
        from sampan.serve.endpoints import Endpoint, EndpointSpec

        return Endpoint(
            id=new_id(self.clock),
            name=begun.endpoint,
            bundle=begun.candidate,
            spec=msgspec.convert(begun.candidate_spec, EndpointSpec),
            actor=state.urgent.actor if state.urgent else _BY,
            reason=f"rollout {begun.id}: {state.why}",
            created=self.clock.micros(),
            golden=begun.golden,
        )

    def _crashing(self, begun: "Begun") -> str:
        """That a candidate's process ends over and over, and how; empty where it does not."""
        return self._hub.serving.crashing(begun.endpoint, begun.candidate) if self._hub is not None else ""

    def _demand(self, begun: "Begun", now: "State", then: "State") -> None:
        """Raises Refused where a rollout is to go on with a version that must not serve, or away from one to which it
        could not go back; it may always go back."""
        from sampan.release.stages import FULL, RUNNING

        if then.stage > now.stage or (then.phase in (RUNNING, FULL) and then.phase != now.phase):
            try:
                self.endpoints.demand(begun.candidate)
                self._demand_way_back(begun)
            except Refused as error:
                self.stuck[begun.endpoint] = Stuck(begun.versions[1], False, error.obstacle, error.advice)
                raise

    def _demand_way_back(self, begun: "Begun") -> None:
        """Raises Refused where the champion must not serve: there would be nothing to go back to."""
        try:
            self.endpoints.demand(begun.champion)
        except Refused as error:
            attempted = f"Lead {begun.versions[1]} over {begun.endpoint}"
            said = f"it could not go back to {begun.versions[0]}: {error.obstacle}"
            raise Refused(attempted, said, error.advice) from None

    def _looking(self, begun: "Begun", state: "State") -> "Looking":
        from sampan.release.looking import Looking

        return Looking(self, begun, state)

    def _write(self, begun: "Begun", state: "State", number: int, seen: "Seen", move: "Move") -> int:
        """Write down what was seen, with the incidents that it makes."""
        from sampan.release.stages import Incident

        looking = self._looking(begun, state)
        incidents = [(one.says, looking.offending(seen)) for one in move.actions if isinstance(one, Incident)]
        return self.rollouts.add(begun, number, seen, move.state, incidents)
