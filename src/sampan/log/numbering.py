"""Items on their way to the disk get their numbers: each is new, seen before with the same meaning, or a conflict."""

from array import array
from collections.abc import Callable

from sampan.log.check import Bad, Checker, same_meaning
from sampan.log.dedupe import Dedupe, Known
from sampan.log.frames import Complaint, Frame, Notes, encode
from sampan.log.group import Group, Placing, Request, doubtful
from sampan.log.tally import tally
from sampan.log.verdict import Answer


class Numbering:
    """Numbers items of one stream, and makes their frames; writes nothing. ``stored``: the bytes of a durable item."""

    def __init__(self, stream: str, dedupe: Dedupe | None, checker: Checker, stored: Callable[[int], bytes]) -> None:
        self._stream, self._dedupe, self._checker, self._stored = stream, dedupe, checker, stored

    def place(self, group: Group, requests: list[Request], received: int, known: Known, refused: int) -> None:
        """Number the items of requests that share a frame, accepted ones first, and make the frame. ``refused``: how
        many items it records as refused since the one before."""
        frame = Placing(group.last + 1)
        dedupe = self._dedupe
        if dedupe is not None:
            keys = [key for request in requests for key in request.batch.keys]
            if dedupe.take_new(keys, doubtful(requests), frame.first, known):
                group.placed += keys
                dedupe = None  # nothing left to compare
        for request in requests:
            if dedupe is None:
                frame.take(request)
            else:
                self._compare(group, frame, request, known)
        held = frame.first + len(frame.raws)
        number = held
        notes = None
        if frame.bads or requests[0].repairs:
            complaints = tuple(bad.complaint for bads in frame.bads for bad in bads)
            notes = Notes(complaints, requests[0].repairs)
        for request, first, ids, places, bads in frame.answers:
            told = [(bad.index, at, bad.complaint.id, bad.complaint.text) for at, bad in enumerate(bads, number)]
            number += len(bads)
            request.answer = Answer(self._stream, ids, first, places, told, plain=request.batch.plain)
        payload = encode(
            frame.first,
            received,
            requests[0].producer,
            frame.raws,
            requests[0].batch.labels,
            array("H", frame.codes),
            held=[bad.raw for bads in frame.bads for bad in bads],
            notes=notes,
            duplicate=frame.duplicate,
            refused=refused,
        )
        complaints = notes.complaints if notes is not None else ()
        tally(
            group.tallied,
            received,
            requests[0].producer,
            requests[0].batch.labels,
            frame.codes,
            frame.sources,
            complaints,
            frame.duplicate,
        )
        group.refused += refused
        group.frames.append(payload)
        group.firsts.append(frame.first if number > frame.first else 0)
        group.last = number - 1
        group.counts.accepted += len(frame.raws)
        group.counts.duplicate += frame.duplicate
        group.counts.quarantined += number - held

    def _compare(self, group: Group, frame: Placing, request: Request, known: Known) -> None:
        """Item by item: new, seen before with the same meaning, or a conflict."""
        dedupe, batch = self._dedupe, request.batch
        assert dedupe is not None
        bad_at = {bad.index for bad in batch.bads}
        indexes = (index for index in range(len(batch)) if index not in bad_at)
        ids: list[str] = []
        places: list[tuple[int, bool]] = []
        conflicts: list[Bad] = []
        parts = (batch.keys, batch.raws, batch.codes, batch.ids, batch.sources)
        for index, key, raw, code, id, source in zip(indexes, *parts, strict=True):
            number = dedupe.recent(key)
            content = None
            if number is None and key in known:
                number, content = known[key]
            if number is None:
                number = frame.first + len(frame.raws)
                dedupe.active[key] = number
                group.placed.append(key)
                frame.raws.append(raw)
                frame.codes.append(code)
                frame.sources.append(source)
                ids.append(id)
                places.append((number, False))
            elif dedupe.same_content(raw, content) or same_meaning(
                self._original(group, frame, number), raw, timed=batch.timed
            ):
                ids.append(id)
                places.append((number, True))
                frame.duplicate += 1
            else:
                label = batch.labels[code].rpartition("@")[0]
                # The same words for every conflict, so that the list of quarantine stays short however many there are.
                reason = "conflict: the log has the same source and id with other content"
                complaint = Complaint(reason, "$", label, id, source)
                conflicts.append(self._checker.conflict(batch, index, raw, complaint))
        bads = sorted([*batch.bads, *conflicts], key=lambda bad: bad.index) if conflicts else batch.bads
        frame.bads.append(bads)
        frame.answers.append((request, 0, ids, places, bads))

    def _original(self, group: Group, frame: Placing, number: int) -> bytes:
        """The bytes of an accepted item, wherever it is by now."""
        if number >= frame.first:
            return frame.raws[number - frame.first]
        if number >= group.first:
            at = max(index for index, start in enumerate(group.firsts) if 0 < start <= number)
            return Frame(group.frames[at]).raw(number - group.firsts[at])
        return self._stored(number)
