"""Models and their versions, for the OpenAPI description."""

from collections.abc import Mapping
from typing import Any, Final

from sampan.api.openapi import JSON, Operation
from sampan.api.registry_routes import AliasRequest, ApprovalRequest, ModelRequest, SuiteRequest, VersionRequest
from sampan.api.routes import DamageRequest
from sampan.models.aliases import Alias
from sampan.models.golden_checks import GoldenCheck, GoldenChecked
from sampan.models.rebuilds import Rebuild, Rebuilt
from sampan.models.registry import Registered
from sampan.models.signatures import KeptSignature, SignatureRequest
from sampan.models.tests import SuiteResult
from sampan.models.version import Version
from sampan.release.promotion import Promotion

OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/v1/rebuilds"): Operation(
        summary="Keep what came of making a version anew", body={JSON: Rebuilt}, answers={JSON: Rebuild}, status=201
    ),
    ("POST", "/v1/golden-checks"): Operation(
        summary="Keep what came of asking golden requests again",
        body={JSON: GoldenCheck},
        answers={JSON: GoldenChecked},
        status=201,
    ),
    ("POST", "/v1/signatures"): Operation(
        summary="Keep a signature of a version that was made elsewhere",
        body={JSON: SignatureRequest},
        answers={JSON: KeptSignature},
        status=201,
    ),
    ("POST", "/v1/damages"): Operation(
        summary="Keep that something was refused for damage of a version, as far as the hub finds it damaged",
        body={JSON: DamageRequest},
        answers={JSON: dict[str, Any]},
        status=201,
    ),
    ("POST", "/v1/tests"): Operation(
        summary="Run the suite of a version's model", body={JSON: SuiteRequest}, answers={JSON: SuiteResult}, status=201
    ),
    ("POST", "/v1/models"): Operation(
        summary="Give a model a name", body={JSON: ModelRequest}, answers={JSON: Registered}, status=201
    ),
    ("DELETE", "/v1/models/{model}"): Operation(
        summary="Put a model out of sight with its versions", answers={JSON: dict[str, str]}
    ),
    ("POST", "/v1/models/{model}/versions"): Operation(
        summary="Register a version of what a run logged",
        body={JSON: VersionRequest},
        answers={JSON: Version},
        status=201,
    ),
    ("DELETE", "/v1/models/{model}/versions/{number}"): Operation(
        summary="Put a version out of sight", answers={JSON: dict[str, str]}
    ),
    ("PUT", "/v1/models/{model}/aliases/{alias}"): Operation(
        summary="Have an alias name a version", body={JSON: AliasRequest}, answers={JSON: Alias}
    ),
    ("DELETE", "/v1/models/{model}/aliases/{alias}"): Operation(
        summary="Have an alias name nothing",
        query={"reason": "Why", "token": "Of the state that was seen; it goes only from that one"},
        answers={JSON: None},
    ),
    ("POST", "/v1/models/{model}/versions/{number}/approvals"): Operation(
        summary="Say yes or no to a version under an alias",
        body={JSON: ApprovalRequest},
        answers={JSON: Promotion},
        status=201,
    ),
}
