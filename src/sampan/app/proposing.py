"""What commands and the hub ask about other thresholds: tried on the past, proposed, approved, rolled out.

What is tried is a whole bundle, the one in force but for the thresholds; the same bundle is what is approved and what a
rollout leads over the endpoint.
"""

import logging
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sampan.app.releasing import Releasing
from sampan.base.errors import Conflict, Refused, SampanError, Usage

if TYPE_CHECKING:
    from sampan.release.proposals import Proposal
    from sampan.serve.again import Again
    from sampan.serve.bundle import Bundle
    from sampan.serve.past import Past

DAYS: Final = 30
_MOST_DAYS: Final = 3_660
_MOST: Final = 20_000  # requests that are answered again, twice each: some twenty seconds
_DAY: Final = 86_400_000_000
_CHUNK: Final = 5_000  # requests, after which it can be told how far it is
_LOG: Final = logging.getLogger("sampan.trial")
_ONE: Final = threading.Lock()  # a trial at a time: it takes the machine from who answers


class Trial(NamedTuple):
    """What is tried: the bundle in force, the changed one, and the proposal that keeps what comes of it."""

    attempted: str
    base: "Bundle"
    candidate: "Bundle"
    proposal: "Proposal"


class Proposing(Releasing):
    """Brings other thresholds on their way."""

    def try_thresholds(self, endpoint: str, thresholds: dict[str, Any], days: int, actor: str) -> Any:
        """See what the last days' decisions would have been; kept as a proposal that nobody is asked about yet.

        The bundle in force and the changed one answer the same requests, so that nothing but the thresholds differs.
        Raises NotFound, Usage for thresholds that it has not, of another type, or as they are.
        """
        import msgspec

        trial = self._trial(endpoint, thresholds, days, actor)
        with _ONE:
            effect, of = self._effect(trial)
        made = msgspec.structs.replace(trial.proposal, effect=effect, of=of, tried=self.clock.micros())
        with self._as_writer(trial.attempted):
            self.blobs.put(trial.candidate.encode())
            return self._proposal(self.proposals.add(made))

    def begin_trial(self, endpoint: str, thresholds: dict[str, Any], days: int, actor: str) -> Any:
        """As ``try_thresholds``, in the hub, and at once: what it would have changed comes in later."""
        trial = self._trial(endpoint, thresholds, days, actor)
        with self._as_writer(trial.attempted):
            self.blobs.put(trial.candidate.encode())
            made = self._proposal(self.proposals.add(trial.proposal))
        self._trials()[trial.proposal.id] = (0, 0)
        threading.Thread(target=self._try, args=(trial,), daemon=True, name="trial").start()
        return made

    def trials(self) -> dict[str, tuple[int, int]]:
        """What is being tried: by proposal how many answers there are, of how many; both 0 until it has begun."""
        return dict(self._trials())

    def _trials(self) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = self._part("trials", dict)
        return found

    def _try(self, trial: "Trial") -> None:
        """Work out what a proposal would have changed, one at a time; whatever becomes of it, its page says so."""
        from sampan.base.reports import report

        nothing = {"endpoint": trial.proposal.endpoint, "decisions": 0, "answered": 0, "known": 0, "differ": 0}
        of = 0
        try:
            with _ONE:
                effect, of = self._effect(trial)
        except SampanError as error:
            effect = {**nothing, "obstacle": f"{error.obstacle}. {error.advice}".strip()}
        except Exception as error:  # noqa: BLE001 - the edge of this thread
            effect = {**nothing, "obstacle": f"{type(error).__name__}; details: {report(error)}"}
        try:
            self.proposals.tried(trial.proposal.id, effect, of)
        except SampanError as error:  # the next start of the hub notes that it never came to an end
            _LOG.warning("A trial could not be kept: %s", error)
        finally:
            self._trials().pop(trial.proposal.id, None)

    def _trial(self, endpoint: str, thresholds: dict[str, Any], days: int, actor: str) -> "Trial":
        """What is to be tried, once it has been seen that it can be."""
        from sampan.base.ids import new_id
        from sampan.release.proposals import Change, Proposal
        from sampan.serve.thresholds import defaults

        attempted = f"Try other thresholds on {endpoint[:100]}"
        if not 1 <= days <= _MOST_DAYS:
            raise Usage(attempted, f"{days:,} days", f"From 1 to {_MOST_DAYS:,}.", field="days")
        now = self.endpoints.get(endpoint)
        base = self.endpoints.bundle(now.bundle)
        before = dict(base.decision.thresholds) if base.decision is not None else {}
        given = {name: _typed(value, before.get(name)) for name, value in thresholds.items()}
        candidate = self.endpoints.with_thresholds(now.bundle, given)
        facts = candidate.decision
        assert facts is not None
        after = {name: value for name, value in facts.thresholds.items() if value != before[name]}
        if not after:
            raise Usage(attempted, "every threshold is as it is in force", "Change one.")
        until = self.clock.micros()
        declared = defaults(self._rules(base), facts.name)
        made = Proposal(
            id=new_id(self.clock),
            endpoint=endpoint,
            base=now.bundle,
            candidate=candidate.digest,
            version=candidate.version,
            decision=facts.name,
            changes={name: Change(before[name], value, declared.get(name)) for name, value in after.items()},
            effect={},
            of=0,
            since=until - days * _DAY,
            until=until,
            actor=actor,
            created=until,
        )
        return Trial(attempted, base, candidate, made)

    def _effect(self, trial: "Trial") -> tuple[dict[str, Any], int]:
        """What would have been decided beside what is, on the requests of a span; and how many those were."""
        import msgspec

        from sampan.app.retaking import answers
        from sampan.serve.again import Case
        from sampan.serve.counterfactual import compare
        from sampan.serve.past import past_decisions

        base, candidate, id = trial.base, trial.candidate, trial.proposal.id
        endpoint, since, until = trial.proposal.endpoint, trial.proposal.since, trial.proposal.until
        past = past_decisions(self.lake, self.log, self.log.position(), since, until, endpoint, _MOST)
        of = len(past) if len(past) < _MOST else self._count(endpoint, since, until)
        entity = base.decision.entity if base.decision is not None else ""

        def case(one: "Past") -> Case:
            record = {**one.context, **one.features}
            if entity and entity not in record:
                record[entity] = one.entity or None
            return Case(one.id, one.time, record)

        def again(bundle: "Bundle", before: int) -> dict[str, "Again"]:
            found: dict[str, Again] = {}
            for at in range(0, len(cases), _CHUNK):
                self._answered(id, before + at, 2 * len(cases))
                found |= answers(self.blobs, [(bundle, cases[at : at + _CHUNK])], folder)
            return found

        cases, folder = [case(one) for one in past], self.folder.data / "tmp"
        then, now = again(base, 0), again(candidate, len(cases))
        replaced = []
        for one in past:
            was = then.get(one.id)
            if was is None or (was.error and not was.action):
                if was is not None and one.id in now:
                    now[one.id] = msgspec.structs.replace(now[one.id], action="", error=was.error)
            elif not (one.reviewed and was.asks):
                told = {"prediction": was.prediction, "action": was.action, "value": was.value}
                one = msgspec.structs.replace(one, rule=was.rule, reviewed=False, held="", **told)
            replaced.append(one)
        return msgspec.to_builtins(compare(endpoint, replaced, now, {base.version: candidate.version})), of

    def _answered(self, id: str, count: int, of: int) -> None:
        if id in (trials := self._trials()):
            trials[id] = (count, of)

    def _count(self, endpoint: str, since: int, until: int) -> int:
        """How many requests there were in a span."""
        from sampan.lake.query import quote_text
        from sampan.lake.read import query

        span = f"_time >= make_timestamptz({since}) AND _time < make_timestamptz({until})"
        asked = f"SELECT count(*) FROM prediction WHERE endpoint = {quote_text(endpoint)} AND {span}"
        return int(query(asked, self.lake, self.log).fetchall()[0][0])

    def _rules(self, bundle: "Bundle") -> dict[str, bytes]:
        return {path: self.blobs.get(digest) for path, digest in bundle.sources.items()}

    def ask_proposal(self, id: str, reason: str, actor: str) -> Any:
        """Ask for approval of what was tried. Raises NotFound, Conflict, Usage without a reason."""
        with self._as_writer("Ask for approval of a proposal"):
            found = self.proposals.get(id)
            self._still(f"Ask for approval of the proposal {found.id}", found)
            return self._proposal(self.proposals.ask(found.id, reason, actor))

    def decide_proposal(self, id: str, verdict: str, reason: str, actor: str) -> Any:
        """Say yes or no to a proposal, or take it back; gives where it stands then."""
        from sampan.models.approvals import Approvals
        from sampan.release.proposals import alias_of, seen_of

        with self._as_writer("Decide about a proposal"):
            found = self.proposals.get(id)
            attempted = f"Decide about the proposal {found.id}"
            self._still(attempted, found)
            if found.asked is None:
                raise Conflict(attempted, "nobody has asked for approval yet", "It has only been tried.")
            model, _, number = found.version.partition("@")
            approvals = Approvals(self.db, self.clock)
            seen = seen_of(found)
            approvals.add(model, int(number), alias_of(found.id), verdict, actor=actor, reason=reason, seen=seen)
            return self._proposal(found)

    def withdraw_proposal(self, id: str, reason: str, actor: str) -> Any:
        """Let a proposal be. Raises NotFound, Conflict where it is over."""
        from sampan.release.proposals import WITHDRAWN

        with self._as_writer("Withdraw a proposal"):
            return self._proposal(self.proposals.end(self.proposals.get(id).id, WITHDRAWN, actor, why=reason))

    def ship_proposal(self, id: str, reason: str, actor: str) -> Any:
        """Begin to lead what was proposed over its endpoint, by its plan in ``rollouts.toml``. Raises Refused while the
        policy asks for more, Conflict where the endpoint serves another bundle since."""
        from sampan.release.proposals import SHIPPED, standing

        with self._as_writer("Roll a proposal out"):
            found = self.proposals.get(id)
            attempted = f"Roll the proposal {found.id} out"
            self._still(attempted, found)
            stands = standing(self, found, self.endpoints.get(found.endpoint).bundle)
            if found.asked is None:
                raise Conflict(attempted, "it has only been tried", "Ask for approval first, with a reason.")
            if stands.missing:
                why = "; ".join(one.rstrip(".") for one in stands.missing)
                raise Refused(attempted, f"missing: {why}", f"See /proposals/{found.id}.")
            going = self.rollouts.active(found.endpoint)
            if going is not None and going.candidate == found.candidate:  # it began, and nobody wrote that down here
                return self._proposal(self.proposals.end(found.id, SHIPPED, actor, rollout=going.id))
            bundle = self.endpoints.bundle(found.candidate)
            said = f"proposal {found.id}: {reason.strip() or found.reason}"
            begun = self._begin(
                found.endpoint,
                lambda: self.endpoints.of_bundle(found.endpoint, bundle, actor=actor, reason=said),
                said,
                actor,
                False,
                lambda: self._files_in(found.candidate),
            )
            closed = self.proposals.end(found.id, SHIPPED, actor, rollout=begun["id"])
            return {**self._proposal(closed), "phase": begun["phase"], "why": begun["why"]}

    def proposal_patch(self, id: str) -> Any:
        """A patch that brings the workspace's ``decisions.py`` in line with a proposal; empty where it is."""
        from sampan.base.sources import collect
        from sampan.serve.decisions import ENTRY
        from sampan.serve.thresholds import patch

        found = self.proposals.get(id)
        rules = collect(self.folder.root, ENTRY)
        return {"id": found.id, "patch": patch(rules, found.decision, found.thresholds)}

    def _still(self, attempted: str, found: "Proposal") -> None:
        """Raises Conflict where nothing can be done about a proposal any more."""
        if found.closed is not None:
            raise Conflict(attempted, f"it is {found.closed_as}", f"See /proposals/{found.id}.")
        if found.tried is None:
            raise Conflict(attempted, "it is still being tried", "Wait until it is known what it would have changed.")
        if self.endpoints.get(found.endpoint).bundle != found.base:
            said = f"{found.endpoint} serves another bundle than the one that it was tried against"
            raise Conflict(attempted, said, "Try it again: its effect may be another now.")

    def _proposal(self, found: "Proposal") -> dict[str, Any]:
        """A proposal as a command shows it."""
        import msgspec

        from sampan.release.proposals import standing

        stands = standing(self, found, self.endpoints.get(found.endpoint).bundle)
        return {"proposal": msgspec.to_builtins(found), "standing": msgspec.to_builtins(stands)}

    # -- an edit stays until decisions.py says otherwise

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
        """As ``Releasing.deploy``, with the thresholds that proposals have put in force."""
        given = {**self._edited(name), **thresholds}
        return super().deploy(name, model, decision, given, reason, actor, without_golden)

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
        """As ``Releasing.begin_rollout``, with the thresholds that proposals have put in force."""
        given = {**self._edited(endpoint), **thresholds}
        return super().begin_rollout(endpoint, model, decision, given, reason, actor, without_golden)

    def _edited(self, endpoint: str) -> dict[str, Any]:
        """Thresholds in force that a proposal has put there, and whose default in ``decisions.py`` is still the one
        that it was made against: whoever has changed the default since has spoken last."""
        from sampan.base.sources import collect
        from sampan.release.proposals import SHIPPED
        from sampan.serve.decisions import ENTRY
        from sampan.serve.thresholds import defaults

        now = self.endpoints.find(endpoint)
        shipped = [one for one in self.proposals.list(endpoint) if one.closed_as == SHIPPED]
        if now is None or not shipped:
            return {}
        declared = defaults(collect(self.folder.root, ENTRY), now.spec.decision)
        found: dict[str, Any] = {}
        for one in reversed(shipped):
            for name, change in one.changes.items():
                if one.decision != now.spec.decision or now.spec.thresholds.get(name) != change.after:
                    found.pop(name, None)
                elif declared.get(name) is not None and declared.get(name) == change.default:
                    found[name] = change.after
        return found


def _typed(value: Any, like: Any) -> Any:
    """A value that a form or command gives as text, as what the threshold is; any other as it is."""
    import msgspec

    if not isinstance(value, str) or isinstance(like, str):
        return value
    try:
        return msgspec.json.decode(value.strip())
    except msgspec.DecodeError:
        return value
