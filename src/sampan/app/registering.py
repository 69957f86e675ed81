"""What commands and the hub ask about registered models: versions of logged runs, and their end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sampan.app.workplace import Workplace
from sampan.base.errors import NotFound, Usage

if TYPE_CHECKING:
    from sampan.models.version import Version
    from sampan.track.spool import Line
    from sampan.track.tracking import Tracking


class Registering(Workplace):
    """Registers what runs logged, and says which version is meant by a name."""

    def take_logged(self, run: str, lines: "list[Line]") -> Any:
        """Lines that ``sampan.log`` sends from elsewhere. Raises Usage for what is no run's id or too long, NotFound
        for a run that is not there and whose first line is not among them."""
        from sampan.track.sync import Sync, check_lines

        attempted = "Take what was logged"
        tracking = self.tracking
        check_lines(attempted, run, lines)
        if not any(line.experiment for line in lines):
            try:
                tracking.runs.get(run)
            except NotFound:
                advice = "Send it from its first line, which names its experiment."
                raise NotFound(attempted, f"there is no run {run}", advice) from None
        ended = Sync(self.folder.data, tracking).lines(run, lines)
        try:
            tracking.runs.get(run)
        except NotFound:
            said = f"it could not be begun, in the experiment {lines[0].experiment[:100]!r}"
            raise Usage(attempted, said, "Name another experiment.") from None
        return {"ended": ended}

    def register(self, name: str, run: str, logged_model: str, path: str, version: str, actor: str) -> Any:
        """A version of what a run logged, which is frozen with it; or one with the content of another model's
        ``version``. The same content keeps its number."""
        import msgspec

        from sampan.models.format_mlflow import draft_of_files
        from sampan.models.registry import check_name
        from sampan.models.version import Origin

        attempted = f"Register a version of {name[:100]}"
        check_name(attempted, name)
        if version:
            with self._as_writer(attempted):
                other = self.models.get(version)
                copy = self.models.register(other.draft(), name, other.run, other.key, origin=other.origin, actor=actor)
                return msgspec.to_builtins(copy)
        if not run and not logged_model:
            raise Usage(attempted, "neither a run nor a logged model was named", "Name one: --run RUN.")
        with self._as_writer(attempted), self._tracking_writer() as tracking:
            taken = tracking.freezer.take(attempted, run=run, model=logged_model, path=path)
            for digest in taken.files.values():
                self.blobs.share(tracking.artifacts.bytes_of(digest), digest)
            draft = draft_of_files(taken.files, taken.metrics, self.blobs)
            origin = Origin(taken.run, taken.model, path)
            return msgspec.to_builtins(self.models.register(draft, name, origin=origin, actor=actor))

    def create_model(self, name: str, actor: str) -> Any:
        """Give a model a name before it has versions."""
        import msgspec

        with self._as_writer(f"Create the registered model {name[:100]!r}"):
            return msgspec.to_builtins(self.models.create(name, actor=actor))

    def keep_signature(self, request: dict[str, Any], actor: str) -> Any:
        """Keep a signature (``models.signatures.SignatureRequest``) with its version. Raises what ``Signatures.add``
        raises."""
        import msgspec

        from sampan.models.signatures import KeptSignature, SignatureRequest, Signatures
        from sampan.models.signing import read_trust

        asked = msgspec.convert(request, SignatureRequest)
        with self._as_writer(f"Keep a signature of {asked.ref[:100]}"):
            trust = read_trust(self.folder)
            made = Signatures(self.db, self.clock).add(self.models.get(asked.ref), asked, trust, actor=actor)
            named = trust.keys[made.key].name if made.key in trust.keys else ""
            return msgspec.to_builtins(KeptSignature(**msgspec.structs.asdict(made), name=named))

    def delete_version(self, ref: str, actor: str) -> Any:
        """Put a version that people registered out of sight, unless something needs it."""
        with self._as_writer(f"Delete {ref[:100]}"):
            return {"deleted": self.models.delete(ref, self._in_use).ref}

    def delete_model(self, name: str, actor: str) -> Any:
        """Put a model out of sight with all of its versions, unless something needs one of them."""
        with self._as_writer(f"Delete the registered model {name[:100]}"):
            self.models.delete_model(name, self._in_use)
            return {"deleted": name}

    def _in_use(self, version: "Version") -> str:
        query = "SELECT name FROM bundles WHERE version = ? LIMIT 1"
        served = self.db.row(query, (version.ref,))
        return f"the endpoint {served['name']} has served it" if served is not None else ""

    @contextmanager
    def _tracking_writer(self) -> "Iterator[Tracking]":
        if self._hub is not None:
            yield self._hub.tracking
            return
        from sampan.track.tracking import Tracking

        tracking = Tracking(self.folder.data, self.clock)
        try:
            yield tracking
        finally:
            tracking.close()
