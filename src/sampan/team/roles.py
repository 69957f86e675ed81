"""Roles and the acts they may do. A policy names an act; a token has a role."""

from collections.abc import Mapping
from typing import Final

import msgspec

#: Acts, as policies name them.
READ: Final = "read"  # look at anything in the workspace
SEND: Final = "send"  # send events
PREDICT: Final = "predict"  # ask an endpoint
LOG: Final = "log runs"  # add to experiments: runs, metrics, artifacts; taking away needs RUN
RUN: Final = "run"  # run the flow, ask questions in SQL
APPROVE: Final = "approve"  # say yes or no to a version
REVIEW: Final = "review"  # answer cases that a rule has sent to people
PROPOSE: Final = "propose"  # see what other thresholds would have done, and ask for them
DEPLOY: Final = "deploy"  # change what an endpoint serves
ADMINISTER: Final = "administer"  # make and revoke tokens, make sign-in links

ROLES: Final[Mapping[str, frozenset[str]]] = {
    "producer": frozenset({SEND}),
    "caller": frozenset({PREDICT}),
    "viewer": frozenset({READ}),
    "reviewer": frozenset({READ, REVIEW}),
    "approver": frozenset({READ, REVIEW, PROPOSE, APPROVE}),
    "trainer": frozenset({READ, LOG}),
    "editor": frozenset({READ, SEND, PREDICT, LOG, RUN, PROPOSE}),
    "operator": frozenset({READ, SEND, PREDICT, LOG, RUN, REVIEW, PROPOSE, APPROVE, DEPLOY}),
    "admin": frozenset({READ, SEND, PREDICT, LOG, RUN, REVIEW, PROPOSE, APPROVE, DEPLOY, ADMINISTER}),
}


#: Key of an ASGI scope under which the guard leaves who asks.
PRINCIPAL: Final = "sampan.principal"


class Principal(msgspec.Struct, frozen=True):
    """Who asks: the token behind a request. ``token`` is its id; ``owner`` is the one from the token file."""

    name: str
    role: str
    token: str

    def may(self, act: str) -> bool:
        return act in ROLES[self.role]
