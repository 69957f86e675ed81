"""Which application answers a path: the hot paths and the live stream first, past all routing, then everything else."""

from collections.abc import Awaitable, Iterable, Mapping
from typing import Final

from sampan.api import ga4, segment
from sampan.api import mlflow_messages as mlflow
from sampan.api import predict_paths as predictions
from sampan.api.guard import Asgi, Receive, Scope, Send
from sampan.api.mlflow_errors import PREFIXES

EVENTS: Final = "/v1/events"
LIVE: Final = "/live"
_PREDICTIONS: Final = (predictions.PREDICT, predictions.INVOKE, f"{predictions.V2}/")
#: Paths that take events, of any protocol.
INTAKES: Final = (EVENTS, *segment.PATHS, ga4.COLLECT, ga4.DEBUG)


class Dispatch:
    """Intake and predictions are bare ASGI handlers: through a router, single events are four times slower. The live
    stream is one, too: it goes on for as long as a page is open; and so is all that clients of MLflow's ask for."""

    def __init__(self, intakes: Mapping[str, Asgi], predict: Asgi, live: Asgi, mlflow: Asgi, rest: Asgi) -> None:
        self._intakes = intakes
        self._predict = predict
        self._live = live
        self._mlflow = mlflow
        self._rest = rest

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            path = scope["path"]
            if (intake := self._intakes.get(path)) is not None:
                return intake(scope, receive, send)
            if path.startswith(_PREDICTIONS) or path == predictions.V2:
                return self._predict(scope, receive, send)
            if path == LIVE:
                return self._live(scope, receive, send)
            app = self._mlflow if path.startswith(PREFIXES) else self._rest
            if scope["method"] == "HEAD":
                return app({**scope, "method": "GET"}, receive, _without_body(send))
            return app(scope, receive, send)
        return self._rest(scope, receive, send)

    @staticmethod
    def routes() -> Iterable[tuple[str, str]]:
        """The routes that this layer answers itself."""
        return [*(("POST", path) for path in INTAKES), *predictions.ROUTES, ("GET", LIVE), *mlflow.ROUTES]


def _without_body(send: Send) -> Send:
    """HEAD is GET without the body."""

    async def headless(message: dict[str, object]) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return headless
