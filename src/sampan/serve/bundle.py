"""A bundle: a model version, the decision's frozen source, its thresholds and values, switched as one.

A bundle is a JSON text kept under its own digest; the files it names are kept under theirs. It says everything a
serving process needs, so that such a process reads no records and no working tree.
"""

import importlib
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from sampan.base.digests import digest_bytes
from sampan.base.errors import BadWorkspace, Damaged, NewerFormat, SampanError
from sampan.base.sources import MemoryImporter, imported_apart, imported_late
from sampan.models.version import SERVICE, Version, VersionDraft
from sampan.serve.decisions import ENTRY, Decision, Threshold
from sampan.serve.fallback import FallbackFacts, Silent, Substitute, substitute
from sampan.serve.fallback import facts_of as fallback_of
from sampan.store.blobs import Blobs

if TYPE_CHECKING:
    from sampan.base.outgoing import Outgoing
    from sampan.models.formats import Predictor
    from sampan.serve.live import Live

FORMAT: Final = 1
ONNX: Final = "onnx"


class CapFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How much decisions may put at risk in a day; ``risks``: by action, an amount or the field that holds it."""

    amount: float
    over: str
    hours: float
    risks: dict[str, float | str]


class DecisionFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a decision declares, as data; ``thresholds`` are those in force."""

    name: str
    model: str
    currency: str
    entity: str
    default: str | None
    context: tuple[str, ...] | None
    values: dict[str, dict[str, float]]
    thresholds: dict[str, Threshold]
    features: str = ""
    key: str = ""
    fallback: FallbackFacts | None = None
    cap: CapFacts | None = None


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint serves. ``version`` is ``reorder@3``; ``sources`` maps paths to digests."""

    version: str
    model: VersionDraft
    decision: DecisionFacts | None = None
    sources: dict[str, str] = {}
    format: int = FORMAT
    environment: str | msgspec.UnsetType = msgspec.UNSET
    """The digest of the lock that its process runs in (``environment.Lock``); older bundles carry none."""

    def encode(self) -> bytes:
        """The bytes under whose digest the bundle is known; the order of model inputs is kept."""
        return msgspec.json.encode(self)

    @property
    def digest(self) -> str:
        return digest_bytes(self.encode())


class OpenBundle(NamedTuple):
    """A bundle ready to answer. ``substitute``: what its decision declares for when the model does not."""

    bundle: Bundle
    predictor: "Predictor"
    decision: Decision | None
    substitute: Substitute | None = None
    form: str = ""
    """``onnx`` where the model's verified ONNX form answers; empty for its own."""


def draft_of(version: Version) -> VersionDraft:
    """The part of a version that a bundle carries: nothing that differs between two equal models."""
    return msgspec.structs.replace(version.draft(), metrics={}, made_with={}, golden=None, onnx=None)


def decode(data: bytes) -> Bundle:
    """A bundle from its bytes. Raises NewerFormat or Damaged."""
    try:
        number = msgspec.json.decode(data, type=dict[str, Any]).get("format", 0)
        if isinstance(number, int) and number > FORMAT:
            raise NewerFormat("Open a bundle", f"it has format {number}, this Sampan knows up to {FORMAT}", "Upgrade.")
        return msgspec.json.decode(data, type=Bundle)
    except msgspec.DecodeError as error:
        raise Damaged("Open a bundle", f"it does not parse: {error}", "Deploy again.") from error


def open_bundle(
    bundle: Bundle,
    blobs: Blobs,
    out: "Outgoing | None" = None,
    *,
    without_model: bool = False,
    beside: bool = False,
    demand: Callable[[], None] = lambda: None,
) -> OpenBundle:
    """Load model and rules from bytes whose digests were just checked. Runs in a serving process only.

    ``out``: by which a bundle whose model is a live service may call it; nobody but an endpoint's process does.
    ``without_model``: where the model does not load, its fallback is to answer all the same. ``beside``: another one is
    open in this process already. ``demand`` raises, before anything of it is loaded, if its model must not serve.
    Raises Damaged if any file differs, BadWorkspace if the rules do not import or do not hold the decision.
    """
    predictor: Predictor
    form = ""
    live: Live | None = None
    unwanted = _raised(demand)
    if unwanted is not None:
        if not without_model:
            raise unwanted
        predictor = Silent(unwanted, bundle.model.signature)
    elif bundle.model.format == SERVICE:
        from sampan.serve import live as services

        live = predictor = services.Live(services.read_facts(bundle.model, blobs), bundle.model.signature, out)
    else:
        from sampan.models.formats import load
        from sampan.models.onnx_form import load_onnx

        try:
            if bundle.model.onnx is not None and find_spec("onnxruntime") is not None:
                predictor, form = load_onnx(bundle.model, blobs), ONNX
            else:
                predictor = load(bundle.model, blobs, only=True)
        except SampanError as error:
            if not without_model:
                raise
            predictor = Silent(error, bundle.model.signature)
    chosen = None
    if bundle.decision is not None:
        name = bundle.decision.name
        chosen = next((one for one in load_decisions(bundle, blobs, beside=beside) if one.name == name), None)
        if chosen is None:
            raise BadWorkspace(f"Open the decision {name!r}", f"{ENTRY} in the bundle has no such decision")
    instead = substitute(chosen, bundle.model.signature) if chosen is not None else None
    if instead is None and live is not None and (constant := live.facts.fallback) is not None:
        instead = lambda record: constant  # noqa: E731
    return OpenBundle(bundle, predictor, chosen, instead, form)


def _raised(demand: Callable[[], None]) -> SampanError | None:
    try:
        demand()
    except SampanError as error:
        return error
    return None


def load_decisions(bundle: Bundle, blobs: Blobs, *, beside: bool = False) -> list[Decision]:
    """All decisions that a bundle's ``decisions.py`` declares, imported from the frozen source.

    ``beside``: another bundle's are imported in this process, and go on to be. Raises BadWorkspace.
    """
    sources = {path: blobs.get(digest) for path, digest in bundle.sources.items()}
    module = ENTRY.removesuffix(".py")
    try:
        if not beside:
            MemoryImporter(sources).__enter__()  # stays: a rule may import on first use
            loaded = importlib.import_module(module)
        elif place := imported_late(sources):
            raise BadWorkspace(f"Open {bundle.version} beside another", f"{place} imports within a function")
        else:
            with imported_apart(sources):
                loaded = importlib.import_module(module)
    except BadWorkspace:
        raise
    except Exception as error:
        raise BadWorkspace(
            f"Import {ENTRY}", f"{place_of(error)}{type(error).__name__}: {error}", "Mend it and deploy again."
        ) from error
    return list({id(v): v for v in vars(loaded).values() if isinstance(v, Decision)}.values())


def facts_of(decision: Decision) -> DecisionFacts:
    """A decision's declaration as data, with its default thresholds."""
    return DecisionFacts(
        name=decision.name,
        model=decision.model,
        currency=decision.currency,
        entity=decision.entity,
        default=decision.default,
        context=decision.context,
        values=decision.values,
        thresholds=decision.thresholds,
        features=decision.features,
        key=decision.key,
        fallback=fallback_of(decision),
        cap=None if decision.cap is None else msgspec.convert(decision.cap._asdict(), CapFacts),
    )


def place_of(error: BaseException) -> str:
    """``decisions.py:12: ``, the innermost line of the user's that raised; empty if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.endswith(".py") and not frame.filename.startswith(("/", "<"))]
    return f"{own[-1].filename}:{own[-1].lineno}: " if own else ""
