"""What Sampan did not make becomes the champion of an endpoint: a model's file, or a live service.

Nothing else of a workspace is needed for it: no contract, no table, no flow, no rules.
"""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sampan.app.releasing import Releasing
from sampan.base.errors import Damaged, Unreachable, Usage, revive

if TYPE_CHECKING:
    from sampan.models.version import VersionDraft

_PATIENCE: Final = 300  # seconds that reading a file may take
_SHOWN: Final = 200


class Adopting(Releasing):
    """Registers what comes from outside, and serves it."""

    def adopt(self, name: str, asked: dict[str, Any], actor: str) -> Any:
        """Register a file or a service (``api.routes.AdoptRequest``) as a version that no run made, and put it in force
        under a name as ``deploy`` does, unless it is only to be registered; then gives the version.

        Raises Usage for what cannot be read or is not declared, Refused for a pickle or an address that must not be
        called, Unreachable for a service that is not there, Conflict while a rollout goes on.
        """
        import msgspec

        from sampan.models.registry import check_name
        from sampan.models.version import Origin
        from sampan.serve.endpoints import check_endpoint

        source = str(asked["source"])
        attempted = f"Adopt {source[:_SHOWN]}"
        check_endpoint(attempted, name)
        model = asked.get("model") or name
        check_name(attempted, model)
        with self._as_writer(attempted):
            if not asked.get("register_only") and (begun := self.rollouts.active(name)) is not None:
                raise self._goes_on(attempted, begun)
            live = source.startswith(("http://", "https://"))
            draft, said = self._service(attempted, asked) if live else (self._file(attempted, asked), None)
            version = self.models.register(draft, model, origin=Origin(adopted=source[:_SHOWN]), actor=actor)
            told = {name: getattr(version, name) for name in ("ref", "digest", "format", "kind")}
            tensors = version.signature.tensors
            told |= {"inputs": version.signature.inputs, "tensors": tensors or {}, "example": said}
            if asked.get("register_only"):
                return {"adopted": msgspec.to_builtins(told)}
            rules = (asked.get("decision") or "", asked.get("thresholds") or {})
            made = self.deploy(name, version.ref, *rules, asked.get("reason") or f"adopted: {source[:80]}", actor)
            return {**made, "adopted": msgspec.to_builtins(told)}

    def _file(self, attempted: str, asked: dict[str, Any]) -> "VersionDraft":
        """A version of a file as it is, opened in a process of its own."""
        import msgspec

        from sampan.models.adopting import Answer, Errand, classes_of, features_of, format_of
        from sampan.serve.environment import ONE_THREAD

        if odd := [one for one in ("form", "read", "token_env", "fallback", "example") if asked.get(one)]:
            raise Usage(attempted, f"--{odd[0].replace('_', '-')} is of a service, and this is a file", "Leave it out.")
        name = Path(str(asked["source"])).name
        data = self.blobs.get(asked["digest"]) if asked.get("digest") else asked.get("data") or b""
        format = format_of(attempted, name, data, asked.get("format") or "")
        errand = Errand(
            file=name,
            digest=self.blobs.put(data),
            blobs=str(self.blobs.folder.resolve()),
            format=format,
            kind=asked.get("kind") or "",
            features=features_of(attempted, asked.get("features") or ""),
            classes=classes_of(asked.get("classes") or ""),
        )
        command = [sys.executable, "-P", "-m", "sampan.models.adopting"]
        given, environment = msgspec.json.encode(errand), {**os.environ, **ONE_THREAD}
        try:
            done = subprocess.run(
                command, input=given, capture_output=True, timeout=_PATIENCE, env=environment, check=False
            )
            answer = msgspec.json.decode(done.stdout, type=Answer)
        except subprocess.TimeoutExpired:
            raise Damaged(attempted, f"reading it took more than {_PATIENCE} s", "Save the model anew.") from None
        except msgspec.DecodeError:
            last = (done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"])[-1][:_SHOWN]
            raise Usage(
                attempted, f"the process that read it ended with {done.returncode}: {last}", "Save the model anew."
            ) from None
        if answer.error:
            raise revive(answer.error)
        assert answer.draft is not None
        return answer.draft

    def _service(self, attempted: str, asked: dict[str, Any]) -> "tuple[VersionDraft, Any]":
        """A version that is a service's address; and what it answered to the example, if one was given."""
        from sampan.models.adopting import check_kind, classes_of, features_of
        from sampan.models.version import WHOLE, Signature
        from sampan.serve.live import FORMS, Facts, Live, check, draft, outgoing

        if asked.get("format"):
            raise Usage(attempted, "--format is of a file, and this is a service", "--form says how it is called.")
        if not asked.get("form"):
            raise Usage(attempted, "how it is called is not said", f"Say it: --form {'|'.join(FORMS)}.")
        classes = classes_of(asked.get("classes") or "")
        kind, output, labels = check_kind(attempted, asked.get("kind") or "", classes)
        features = features_of(attempted, asked.get("features") or "")
        if whole := [name for name, type in features.items() if type in WHOLE]:
            odd = f"the feature {whole[0][:80]!r} is a {features[whole[0]]}, and of a service columns are declared"
            raise Usage(attempted, odd, "Leave --features out: records then go to it as they came.")
        signature = Signature(
            inputs={name: type or "number" for name, type in features.items()},  # type: ignore[misc]  # checked there
            output=output,
            classes=labels,
            missing=True,
        )
        facts = Facts(
            url=str(asked["source"]),
            form=asked["form"],
            read=asked.get("read") or "",
            timeout_ms=int(asked.get("timeout_ms") or 2_000),
            token_env=asked.get("token_env") or "",
            fallback=asked.get("fallback"),
        )
        settings = self.folder.settings()  # as they are now, and as its process will read them
        check(attempted, facts, signature, settings.get("predict_timeout"))
        out = outgoing(settings)
        try:
            out.connect(facts.url, facts.timeout_ms / 1_000).close()
        except Unreachable as error:
            raise Unreachable(attempted, error.obstacle, "Is it up? Nothing was adopted.") from error
        said = None
        if asked.get("example") is not None:
            with closing(Live(facts, signature, out)) as once:
                (said,) = once.predict([asked["example"]])
        return draft(facts, kind, signature, self.blobs), said
