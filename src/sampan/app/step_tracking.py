"""Where MLflow's client in a step of a flow logs to, without any set-up.

A run that the hub does logs to the hub. A run of a command without a hub opens a door of its own for as long as it
lasts: the hub's tracking and nothing else, on this machine alone, behind a secret that is made for it. The secret
reaches a step over the socket that its job comes by; it is in no file and no argument.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from sampan.app.workplace import Workplace

_PATIENCE: Final = 20.0  # seconds until what is being asked is answered


def said(url: str, secret: str) -> Mapping[str, str]:
    """What the client is told. No proxy of the environment is asked for an address of this machine."""
    host = urlsplit(url).hostname or ""
    found = {"MLFLOW_TRACKING_URI": url, "MLFLOW_TRACKING_TOKEN": secret}
    for name in ("NO_PROXY", "no_proxy"):
        known = os.environ.get(name, "")
        found[name] = f"{known},{host}" if known else host
    return found


class Door:
    """Tracking for the steps of one command; opened at once."""

    def __init__(self, place: "Workplace") -> None:
        import uvicorn

        from sampan.api.guard import Guard, Hosts, refusal_json
        from sampan.api.mlflow import Mlflow
        from sampan.api.mlflow_errors import refusal as mlflow_refusal
        from sampan.api.policies import POLICIES, Policies
        from sampan.base.clock import SystemClock
        from sampan.hub.server import bind, config
        from sampan.team.gate import Gate
        from sampan.track.tracking import Tracking

        self._listener = bind("127.0.0.1", 0)
        port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        gate = Gate(place.db, SystemClock(), [])
        self.secret = gate.step_secret
        self._tracking = Tracking(place.folder.data, SystemClock())
        limits = place.settings.get("body_limit"), place.settings.get("artifact_limit")
        guarded = Guard(
            Mlflow(self._tracking, place.models, place, *limits, self.url),  # type: ignore[arg-type]
            policies=Policies(POLICIES),
            gate=gate,
            hosts=Hosts("127.0.0.1", port),
            cookie="sampan_door",
            refusal=lambda scope, status, error: (
                mlflow_refusal(scope, status, error) or refusal_json(scope, status, error)
            ),
        )
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._server = uvicorn.Server(config(guarded, 2))
        self._thread = threading.Thread(target=self._serve, name="step-tracking", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._listener]))

    def close(self) -> None:
        """Answer what is being asked, and nothing more; what was logged is on the disk."""
        self._server.should_exit = True
        self._thread.join(_PATIENCE)
        self._listener.close()
        self._tracking.close()
