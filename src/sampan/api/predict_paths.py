"""Where predictions are asked for: our own path, ``/invocations``, the Open Inference Protocol's."""

from typing import Final

PREDICT: Final = "/predict/"
INVOKE: Final = "/invocations/"
V2: Final = "/v2"
_MODELS: Final = "/v2/models/"
#: Paths of requests for predictions.
PREFIXES: Final = (PREDICT, INVOKE, _MODELS)
_MODEL: Final = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
ROUTES: Final = (
    ("POST", PREDICT + "{name}"),
    ("POST", INVOKE + "{name}"),
    ("GET", V2),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
    *(("GET", path) for path in _MODEL),
    *(("GET", f"{path}/ready") for path in _MODEL),
    *(("POST", f"{path}/infer") for path in _MODEL),
)
