"""What waits in quarantine, and how it gets out: a rule of the user's repairs events, which re-enter exactly once.

A rule is a Python file with ``def fix(event: dict, reason: str) -> dict | None``; None leaves an event where it is.
What is not a JSON object comes to the rule as ``{"raw": "<its text>"}``; a message of another protocol as the event
that it was to become, or as it was sent if it becomes none. The frame that re-enters events names the
quarantined items, the author and the rule's digest, so that item and repair become durable together. The bytes in
quarantine stay as they are.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.digests import digest_bytes
from sampan.base.errors import BadWorkspace, NotFound
from sampan.log.check import Checker, same_meaning
from sampan.log.explain import BROKEN
from sampan.log.frames import Repair
from sampan.log.keys import Sealer, SubjectKeys
from sampan.log.log import Log
from sampan.log.position import place
from sampan.log.read import Item, StoredEvent, stored
from sampan.log.reread import reread
from sampan.log.translate import Translator

if TYPE_CHECKING:
    from sampan.log.writer import StreamWriter

_TOGETHER: Final = 1_000  # events that re-enter with one frame
Rule = Callable[[dict[str, Any], str], dict[str, Any] | None]


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule makes of one quarantined item."""

    position: str
    reason: str  # why it is in quarantine
    before: str
    after: str | None  # JSON of the repaired event; None: left where it is
    wrong: str | None = None  # why it cannot re-enter even so


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair did."""

    accepted: int
    duplicate: int
    left: int  # the rule gave None
    wrong: int  # the rule's event does not fit its contract, or conflicts with one that is in the log
    rule: str  # SHA-256 of the rule's file
    author: str
    events: dict[str, str] = {}  # position of each item that was re-entered → of the event that it became


class Quarantine:
    """The quarantined items of a log."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def repaired(self) -> set[str]:
        """Positions of items that have been re-entered."""
        found: set[str] = set()
        for reader in self._log.readers().values():
            for manifest in reader.stream.manifests():
                found.update(manifest.repaired)
            found.update(reader.tail().repaired)
        return found

    def items(
        self,
        *,
        limit: int | None = 100,
        after: str | None = None,
        reason: str | None = None,
        waiting: bool = True,
        newest_first: bool = False,
        whole: bool = True,
    ) -> list[StoredEvent]:
        """Items in quarantine; ``waiting`` leaves out those that have been re-entered; ``reason`` is how it starts.

        ``whole=False``: without their bytes, which is quick however many there are.
        """
        found: list[tuple[str, Item]] = []
        for name, item in self._walk(waiting=waiting, newest_first=newest_first, after=after):
            if reason is None or (item.complaint is not None and item.complaint.reason.startswith(reason)):
                found.append((name, item))
                if limit is not None and len(found) >= limit:
                    break
        if not whole:
            return [stored(name, item) for name, item in found]
        return [self._log.stored(name, item) for name, item in self._with_bytes(found)]

    def these(self, positions: Iterable[str]) -> list[StoredEvent]:
        """The items at these positions, whole."""
        found = []
        numbers: dict[str, list[int]] = {}
        for position in positions:
            name, _, number = position.rpartition(":")
            numbers.setdefault(name, []).append(int(number))
        readers = self._log.readers()
        for name, wanted in numbers.items():
            found += [self._log.stored(name, item) for item in readers[name].some(wanted)]
        return found

    def _with_bytes(self, found: list[tuple[str, Item]]) -> Iterator[tuple[str, Item]]:
        """The same items with their bytes, in the same order."""
        read: dict[tuple[str, int], Item] = {}
        for name, reader in self._log.readers().items():
            numbers = [item.number for stream, item in found if stream == name and not item.raw]
            read.update(((name, item.number), item) for item in reader.some(numbers))
        return ((name, read.get((name, item.number), item)) for name, item in found)

    def _walk(
        self, *, waiting: bool = True, newest_first: bool = False, after: str | None = None
    ) -> Iterator[tuple[str, Item]]:
        from sampan.log.position import Position

        gone = self.repaired() if waiting else set()
        seen = Position.parse(after) if after else Position()
        for name, reader in sorted(self._log.readers().items()):
            for item in reader.held(newest_first=newest_first):
                late = item.number < seen[name] if newest_first else item.number > seen[name]
                if place(name, item.number) not in gone and (late or not seen[name]):
                    yield name, item

    def show(self, position: str) -> StoredEvent:
        """One quarantined item, with its bytes. Raises NotFound."""
        event = self._log.at(position)
        if event.verdict != "quarantined":
            raise NotFound("Show a quarantined event", f"{position} is not in quarantine", "`sampan quarantine list`.")
        return event

    def propose(self, rule: Path, *, reason: str | None = None, positions: set[str] | None = None) -> list[Proposal]:
        """What a rule would do with what waits: the dry run. Raises BadWorkspace, with the line, if the rule fails."""
        fix = load_rule(rule)
        checker, translator = Checker(self._log.contracts), Translator(self._log.contracts)
        proposals = []
        for event in self.items(limit=None, reason=reason):
            if positions is None or event.position in positions:
                proposals.append(_propose(fix, rule, event, checker, translator, self._log.keys))
        return proposals

    def apply(self, proposals: list[Proposal], writer: "StreamWriter", *, rule: str, author: str) -> Repaired:
        """Re-enter repaired events. Running it again changes nothing. ``rule`` is the digest of the rule's file.

        Proposals may come from anywhere: what names nothing in quarantine, or would not enter the log, is wrong.
        """
        gone = self.repaired()
        held = {
            place(name, item.number): item.complaint is None or item.complaint.origin is None
            for name, item in self._walk(waiting=False)
        }  # by position, whether the producer itself said when it happened
        ready: list[Proposal] = []
        wrong = sum(proposal.wrong is not None for proposal in proposals)
        for proposal in proposals:
            if proposal.after is None or proposal.wrong is not None or proposal.position in gone:
                continue
            after, timed = proposal.after.encode(errors="replace"), held.get(proposal.position)
            if timed is not None and writer.alone(partial(enters, writer, after, timed=timed)):
                ready.append(proposal)
                gone.add(proposal.position)  # named twice, it enters once
            else:
                wrong += 1
        accepted = duplicate = 0
        events: dict[str, str] = {}
        for start in range(0, len(ready), _TOGETHER):
            together = ready[start : start + _TOGETHER]
            raws = [(proposal.after or "").encode() for proposal in together]
            batch = writer.alone(partial(writer.checker.batch, raws))
            batch.timed = all(held[proposal.position] for proposal in together)
            repairs = tuple(Repair(proposal.position, author, rule) for proposal in together)
            answer = writer.append(batch, f"fix:{author}", repairs)
            accepted += answer.accepted
            duplicate += answer.duplicate
            events |= {one.position: verdict.position for one, verdict in zip(together, answer.verdicts(), strict=True)}
        left = sum(proposal.after is None for proposal in proposals)
        return Repaired(
            accepted=accepted, duplicate=duplicate, left=left, wrong=wrong, rule=rule, author=author, events=events
        )

    def fix(self, rule: Path, writer: "StreamWriter", *, author: str) -> Repaired:
        """Apply a rule to everything that waits."""
        return self.apply(self.propose(rule), writer, rule=digest_bytes(rule.read_bytes()), author=author)


def enters(writer: "StreamWriter", raw: bytes, *, timed: bool = True) -> bool:
    """Whether this is one event that fits its contract, and the log has no other with its source and id."""
    batch = writer.checker.batch([raw])
    if not batch.raws:
        return False
    event = msgspec.json.decode(raw)
    there = writer.find(event["source"], event["id"])
    return there is None or same_meaning(there, batch.raws[0], timed=timed)


def load_rule(path: Path) -> Rule:
    """The ``fix`` function of a rule file. Raises BadWorkspace with the line that does not work."""
    attempted = f"Read rule {path}"
    try:
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except FileNotFoundError:
        raise NotFound(attempted, "there is no such file") from None
    except (SyntaxError, ValueError) as error:
        raise BadWorkspace(attempted, f"line {getattr(error, 'lineno', '?')}: {error}") from error
    names: dict[str, Any] = {"__name__": "sampan_rule", "__file__": str(path)}
    try:
        exec(code, names)  # noqa: S102 - the user's own rule
    except Exception as error:
        raise BadWorkspace(f"{attempted}, line {_line(error, path)}", f"{type(error).__name__}: {error}") from error
    fix = names.get("fix")
    if not callable(fix):
        raise BadWorkspace(
            attempted, "it has no function `fix`", "Write: def fix(event: dict, reason: str) -> dict | None"
        )
    rule: Rule = fix
    return rule


def translated(held: StoredEvent, translator: Translator) -> bytes | None:
    """JSON of the event that a message in quarantine was to become, as the mappings of now make it; None if none."""
    if held.origin is None:
        return None
    request = reread(held.raw, held.origin, held.producer)
    return translator.again(request, held.origin.part) if request is not None else None


def _propose(
    fix: Rule, path: Path, held: StoredEvent, checker: Checker, translator: Translator, keys: SubjectKeys
) -> Proposal:
    sent = translated(held, translator) or held.raw
    text = sent.decode(errors="replace")
    reason = held.reason or ""
    if held.path not in (None, "$"):
        reason += f" at {held.path}"
    try:
        event = msgspec.json.decode(sent)
    except BROKEN:
        event = None
    if not isinstance(event, dict):
        event = {"raw": text}
    elif held.type is not None and held.type in checker.contracts and isinstance(event.get("data"), dict):
        event = Sealer(checker.contracts.contract(held.type), keys).open(event)  # a conflict was encrypted
    try:
        made = fix(deepcopy(event), reason)
    except Exception as error:
        raise BadWorkspace(
            f"Apply rule {path} to {held.position}, line {_line(error, path)}",
            f"{type(error).__name__}: {error}",
            "Mend the rule, or return None for events that it is not about.",
        ) from error
    left = Proposal(position=held.position, reason=reason, before=text, after=None)
    if made is None:
        return left
    if not isinstance(made, dict):
        raise BadWorkspace(
            f"Apply rule {path} to {held.position}",
            f"it returned {made!r:.60}",
            "Return the repaired event, a dict, or None to leave it where it is.",
        )
    try:
        raw = msgspec.json.encode(made)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise BadWorkspace(f"Apply rule {path} to {held.position}", f"its event is not JSON: {error}") from error
    batch = checker.batch([raw])
    wrong = batch.bads[0].complaint.text if batch.bads else None
    return msgspec.structs.replace(left, after=raw.decode(), wrong=wrong)


def _line(error: BaseException, path: Path) -> int:
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno or 0 for frame in reversed(frames) if frame.filename == str(path)), 0)
