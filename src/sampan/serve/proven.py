"""Golden requests of a version asked of the process that is about to serve it, rules included.

A serving process loads a model in a leaner way than the one that trained it, and must answer as that one did.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.base.errors import Refused, revive
from sampan.models.golden import Golden, compare
from sampan.models.golden_checks import TOLERANCE, GoldenCheck
from sampan.models.onnx_form import TOLERANCE as ONNX_TOLERANCE
from sampan.serve.bundle import Bundle
from sampan.serve.scoring import Batch

if TYPE_CHECKING:
    from sampan.models.formats import Output


class Proven(msgspec.Struct, frozen=True):
    """What came of it. ``unruled``: how many requests the rule failed on, as it may for want of context."""

    check: GoldenCheck
    unruled: int = 0

    def says(self) -> str:
        """In words, for the endpoint's history."""
        check = self.check
        worst = "" if not check.worst else f", at most {check.worst:.2g} apart"
        told = f"{check.cases - check.different:,} of {check.cases:,} golden requests got the same answer{worst}"
        return f"{told}; without context the rule failed on {self.unruled:,}" if self.unruled else told


def prove(bundle: Bundle, golden: Golden, ask: Callable[[list[dict[str, Any]]], Batch]) -> Proven:
    """Ask each request by itself. Whom rules decide about is null: golden requests hold the model's inputs alone."""
    facts, unruled = bundle.decision, 0
    whom = {facts.entity: None} if facts is not None and facts.entity else {}

    def answer(requests: list[Mapping[str, Any]]) -> "list[Output]":
        nonlocal unruled
        batch = ask([{**whom, **request} for request in requests])
        if batch.error is not None:
            raise revive(batch.error)
        unruled += sum(1 for one in batch.answers if one.get("error"))
        said = [one["prediction"] for one in batch.answers]
        return [list(one.values()) if isinstance(one, dict) else one for one in said]

    check = compare(bundle.version, golden, answer, ONNX_TOLERANCE if bundle.model.onnx is not None else TOLERANCE)
    return Proven(check, unruled)


def refuse(proven: Proven, name: str) -> Refused:
    """Why it is not put in force."""
    check = proven.check
    obstacle = (
        f"{check.different:,} of {check.cases:,} golden requests get another answer than in training, beyond"
        f" {check.tolerance:g}: {'; '.join(check.examples[:3])}"
    )
    advice = "Train it again with the libraries that serve it. --without-golden --reason WHY deploys it all the same."
    return Refused(f"Deploy {check.ref} as {name}", obstacle, advice)
