"""What commands and the hub ask about rollouts: checked, begun and told what to do."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from sampan.app.settling import Settling
from sampan.base.errors import Conflict, NotFound, SampanError, Usage

if TYPE_CHECKING:
    from sampan.app.checking import Named
    from sampan.release.records import Begun
    from sampan.release.rollouts import Rollout
    from sampan.release.stages import State, Verb
    from sampan.serve.endpoints import Endpoint

VERBS: Final["Mapping[str, Verb]"] = {
    "pause": "pause",
    "resume": "resume",
    "promote": "promote",
    "back": "roll back",
    "urgent": "urgent",
    "finish": "finish",
}


class Releasing(Settling):
    """Leads candidates from shadow to full use, and back."""

    def begin_rollout(
        self,
        endpoint: str,
        model: str,
        decision: str,
        thresholds: dict[str, Any],
        reason: str,
        actor: str,
        without_golden: bool = False,
    ) -> Any:
        """Begin to lead a candidate over an endpoint by the plan in ``rollouts.toml``, if its golden requests are
        answered as in training and each query of the plan can be asked. Raises Refused, Conflict, NotFound, Usage."""

        def draft() -> "Endpoint":
            return self.endpoints.draft(
                endpoint,
                model or endpoint,
                workspace=self.folder.root,
                decision=decision or None,
                thresholds=thresholds,
                actor=actor,
                reason=reason,
            )

        return self._begin(endpoint, draft, reason, actor, without_golden, lambda: self._files_of(model or endpoint))

    def _begin(
        self,
        endpoint: str,
        draft: "Callable[[], Endpoint]",
        reason: str,
        actor: str,
        without_golden: bool,
        named: "Callable[[], Named]",
    ) -> Any:
        """Begin to lead what ``draft`` makes over an endpoint; ``named``: of which files that is."""
        from msgspec import to_builtins
        from msgspec.structs import replace

        from sampan.release.records import Begun
        from sampan.release.stages import begin
        from sampan.serve.assignment import check

        attempted = f"Begin a rollout on {endpoint[:100]}"
        if without_golden and not reason.strip():
            raise Usage(attempted, "it was asked to leave golden requests out without a reason", "Say why.")
        plan, file = self._plan(endpoint, attempted)
        with self._as_writer(attempted):
            now = self.endpoints.get(endpoint)
            if (other := self.rollouts.active(endpoint)) is not None:
                raise self._goes_on(attempted, other)
            with self._whole(attempted, actor, named):
                made = draft()
            if made.bundle == now.bundle:
                already = f"{made.spec.version} with these rules and thresholds is what it serves already"
                raise Usage(attempted, already, "Name another version or rule: --model, --decision, --set.")
            at = self.clock.micros()
            begun = Begun(
                id=self.rollouts.new_id(),
                endpoint=endpoint,
                champion=now.bundle,
                candidate=made.bundle,
                champion_spec=to_builtins(now.spec),
                candidate_spec=to_builtins(made.spec),
                plan=plan,
                file=file,
                golden="",
                actor=actor,
                reason=reason,
                began=at,
            )
            first = begin(plan, at).state
            self._asks(begun, first, attempted)
            if (assignment := self._assignment(begun, first)) is not None:
                check(endpoint, assignment, self.endpoints.bundle(now.bundle), self.endpoints.bundle(made.bundle))
            self._demand_way_back(begun)
            with self._whole(attempted, actor, lambda: self._files_in(made.bundle), first=False):
                made = self._ready(made, actor, without_golden)
            with self._leading[endpoint]:
                self.rollouts.begin(replace(begun, golden=made.golden))
                return self._put(begun)

    def _ready(self, made: "Endpoint", actor: str, without_golden: bool) -> "Endpoint":
        """A candidate with what came of its golden requests; the hub has it loaded, if there is room."""
        hub = self._hub
        if hub is None:
            return self._prove(made, actor, without_golden, None)
        loaded = hub.load(made)
        try:
            made = self._prove(made, actor, without_golden, lambda records: hub.try_out(loaded, records))
        except BaseException:
            hub.spare(made, loaded, keep=False)
            raise
        room = len(hub.serving.warm(made.name)) < self.settings.get("warm_bundles")
        hub.spare(made, loaded, keep=room)  # what is kept to go back to does not go for it
        return made

    def tell_rollout(self, endpoint: str, verb: str, reason: str, actor: str, rollout: str = "") -> Any:
        """Pause, resume, promote, roll back, finish a rollout, or let it go as urgent; see ``release.stages.tell``.
        ``rollout``: only that one. Raises Refused where it must not be, NotFound where none goes on."""
        from sampan.release.stages import FULL, Said, tell
        from sampan.release.stages import step as follow

        if rollout:
            endpoint = self.rollouts.get(rollout).endpoint
        attempted = f"{VERBS.get(verb, verb[:40]).capitalize()} the rollout of {endpoint[:100]}"
        if verb == "urgent":
            attempted = f"Let the rollout of {endpoint[:100]} go as urgent"
        if verb not in VERBS:
            raise Usage(attempted, f"{verb[:40]!r} is nothing that a rollout can do", f"Possible: {', '.join(VERBS)}.")
        with self._as_writer(attempted), self._leading[endpoint]:
            begun = self.rollouts.active(endpoint)
            if begun is not None and rollout and begun.id != rollout:
                raise Conflict(attempted, "it is over, and another one goes on", f"See /rollouts/{begun.id}.")
            if begun is None:
                self.endpoints.get(endpoint)
                raise NotFound(attempted, "none goes on there", f"`sampan rollout start {endpoint} …` begins one.")
            state, number = self.rollouts.state(begun)
            seen = self._seen.get(begun.id)
            if seen is not None and (state.last is None or seen.at > state.last.at):  # what it is decided on stays
                move = follow(begun.plan, state, seen)
                self._demand(begun, state, move.state)
                number = self._write(begun, state, number, seen, move)
                if (move.state.phase, move.state.stage) != (state.phase, state.stage):
                    self.settle(begun, move.state)
                    raise Conflict(attempted, f"it has gone on by itself: {move.why}", "Look, and say it again.")
                state = move.state
            proofs = self._proofs(begun) if verb == "urgent" else ()
            said = Said(at=self.clock.micros(), verb=VERBS[verb], actor=actor, reason=reason, proofs=proofs)
            move = tell(begun.plan, state, said)
            self._demand(begun, state, move.state)
            if verb == "back" and state.phase == FULL:
                self.endpoints.demand(begun.champion)  # before it is written down: who asks can sign it first
            self.rollouts.add(begun, number, said, move.state)
            return self._put(begun)

    def check_rollouts(self, endpoint: str = "") -> Any:
        """Read ``rollouts.toml`` and ask each query once; what each plan says, how many rows each query gives and how
        many of them have a value, and which plans are for no endpoint that there is. Raises what is wrong."""
        from msgspec import to_builtins

        from sampan.release.records import Begun
        from sampan.release.rollouts import read_rollouts
        from sampan.release.stages import begin

        plans = read_rollouts(self.folder.root).of
        if endpoint:
            plans = {endpoint: self._plan(endpoint, f"Check the rollouts of {endpoint[:100]}")[0]}
        asked = {}
        for name, plan in plans.items():
            begun = Begun(
                id="none",
                endpoint=name,
                champion="",
                candidate="",
                champion_spec={},
                candidate_spec={},
                plan=plan,
                file="",
                golden="",
                actor="",
                reason="",
                began=0,
            )
            asked[name] = self._asks(begun, begin(plan, 0).state, f"Check the rollouts of {name}")
        known = [one.name for one in self.endpoints.list()]
        return {
            "rollouts": {name: to_builtins(plan) for name, plan in plans.items()},
            "asked": {name: {query: list(pair) for query, pair in one.items()} for name, one in asked.items()},
            "unknown": [name for name in plans if name not in known],
            "endpoints": known,
        }

    def close_incident(self, id: str, finding: str, actor: str) -> Any:
        """Say what an incident was. Raises NotFound, Conflict, Usage."""
        from msgspec import to_builtins

        if not finding.strip():
            raise Usage(f"Close the incident {id[:80]!r}", "nothing is said of it", "Say what it was: --finding.")
        with self._as_writer("Close an incident"):
            return to_builtins(self.rollouts.close_incident(id, finding.strip(), actor))

    # -- an endpoint is changed by its rollout alone as long as one goes on

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
        """As ``Deciding.deploy``. Raises Conflict while a rollout goes on."""
        if (begun := self.rollouts.active(name)) is not None:
            raise self._goes_on(f"Deploy {name}", begun)
        return super().deploy(name, model, decision, thresholds, reason, actor, without_golden)

    def rollback(self, name: str, to: str, reason: str, actor: str) -> Any:
        """As ``Deciding.rollback``; of an endpoint with a rollout, the rollout is rolled back first."""
        from msgspec import to_builtins

        if (begun := self.rollouts.active(name)) is None:
            return super().rollback(name, to, reason, actor)
        if to and (then := self._then(name, to).bundle) != begun.champion:
            if then != self.endpoints.get(name).bundle:
                self.tell_rollout(name, "back", reason.strip() or "sampan rollback", actor)
            return super().rollback(name, to, reason, actor)
        begin_ = time.perf_counter()
        warm = self._hub is not None and begun.champion in self._hub.serving.warm(name)
        attempted = f"Roll {name} back to {begun.versions[0]}"
        with self._whole(attempted, actor, lambda: self._files_in(begun.champion), first=False):
            self.tell_rollout(name, "back", reason.strip() or "sampan rollback", actor)
        now = self.endpoints.get(name)
        told: dict[str, Any] = {"from_version": begun.versions[1], "changed": True, "warm": warm or not now.back_from}
        if warm and (said := self._from_memory(attempted, actor, *self._files_in(begun.champion))):
            told["warning"] = said
        flat = {**to_builtins(now), **to_builtins(now.spec), "back_from": begun.candidate}
        return {**flat, **told, "seconds": round(time.perf_counter() - begin_, 3)}

    def _plan(self, endpoint: str, attempted: str) -> "tuple[Rollout, str]":
        from sampan.release.rollouts import FILE, read_rollouts

        found = read_rollouts(self.folder.root)
        if endpoint not in found.of:
            known = f"It has {', '.join(found.of)}." if found.of else f"Write one: `sampan rollout plan {endpoint}`."
            raise NotFound(attempted, f"{FILE} has no plan [{endpoint[:80]}]", known)
        return found.of[endpoint], found.digest

    def _asks(self, begun: "Begun", state: "State", attempted: str) -> dict[str, tuple[int, int]]:
        try:
            return self._looking(begun, state).try_out()
        except SampanError as error:
            said = f"a query of rollouts.toml cannot be asked: {error.obstacle}"
            raise Usage(attempted, said, error.advice or "Try it with `sampan sql`.") from None

    def _proofs(self, begun: "Begun") -> tuple[Any, ...]:
        """What there is that may stand for patience."""
        from sampan.release.promotion import proof

        return tuple(kind for kind in begun.plan.urgent if proof(self, begun.versions[1], kind).good)

    def _goes_on(self, attempted: str, begun: "Begun") -> Conflict:
        from sampan.release.stages import FULL

        state, _ = self.rollouts.state(begun)
        verb = "finish" if state.phase == FULL else "back"
        return Conflict(
            attempted,
            f"a rollout of {begun.versions[1]} goes on ({state.phase})",
            f"`sampan rollout {verb} {begun.endpoint} --reason …` ends it.",
        )

    def _put(self, begun: "Begun") -> dict[str, Any]:
        """A rollout as a command shows it, put in force."""
        state, _ = self.rollouts.state(begun)
        self.settle(begun, state)
        stage = begun.plan.stage[state.stage]
        return {
            "id": begun.id,
            "endpoint": begun.endpoint,
            "champion": begun.versions[0],
            "candidate": begun.versions[1],
            "phase": state.phase,
            "stage": state.stage,
            "of": len(begun.plan.stage),
            "shown": stage.shown,
            "why": state.why,
        }
