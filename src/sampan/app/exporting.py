"""A bundle as the context of a container: a folder that needs neither the workspace nor the hub."""

import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from sampan.app.workplace import Workplace
from sampan.base.errors import Conflict, Damaged, NotFound, Refused, Usage, revive

#: Of Sampan what does not serve.
_LEFT_OUT: Final = ("api", "app", "backends", "cli", "demo", "examples", "hub", "testing", "__pycache__")
_SERVE: Final = '''"""Answers /ping and /invocations with the bundle beside it. Written by `sampan bundle export`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "lib"))

from sampan.serve.exported import main  # noqa: E402

main(HERE)
'''
_DOCKERFILE: Final = """# {version}, bundle {bundle}. Build and run:
#   docker build -t {name} . && docker run -p 8080:8080 {name}
FROM python:{python}-slim
{system}WORKDIR /opt/program
COPY requirements.lock .
RUN pip install --no-cache-dir --no-deps -r requirements.lock
COPY --chown=1000 . .
ENV PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
USER 1000
EXPOSE 8080
ENTRYPOINT ["python", "serve.py"]
"""
_README: Final = """# {version}, as the endpoint {endpoint} served it

Bundle {bundle}. It answers `GET /ping` and `POST /invocations` on port 8080, with the answers of the endpoint.

    docker build -t {name} . && docker run -p 8080:8080 {name}
    curl localhost:8080/invocations -H "Content-Type: application/json" -d '{body}'

Without a container, in Python {python}: `pip install --no-deps -r requirements.lock`, then `python serve.py`.
`PORT` and `HOST` move it. Nothing is looked up here: send every input of the model. Predictions are not recorded;
with `SAMPAN_EVENTS=stdout` their events go to standard output. A file that is not as it was exported stops the start.
"""
_EXAMPLES: Final = {"number": 0.0, "integer": 0, "boolean": False}
_OPENMP: Final = (
    "RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*\n"
)
_PATIENCE: Final = 300


class Exporting(Workplace):
    """Writes bundles out."""

    def export_bundle(self, to: Path, endpoint: str = "") -> dict[str, Any]:
        """Write what an endpoint has in force into an empty folder; the only endpoint, if none is named.

        Raises NotFound, Usage where there are several, Conflict for a folder that holds something, Refused for a live
        service, and what the bundle fails with when it is opened from there.
        """
        import msgspec

        from sampan.models.version import SERVICE
        from sampan.serve.exported import BUNDLE, laid_out

        attempted = f"Export {endpoint[:100] or 'a bundle'} to {to}"
        there = self.endpoints.list()
        if not endpoint and len(there) != 1:
            known = ", ".join(one.name for one in there)
            if not there:
                raise NotFound(attempted, "there is no endpoint", "`sampan endpoint deploy` makes one.")
            raise Usage(attempted, f"there are several endpoints: {known}", "Name one of them.")
        found = self.endpoints.get(endpoint) if endpoint else there[0]
        bundle = self.endpoints.bundle(found.bundle)
        self.endpoints.demand(bundle)
        if bundle.model.format == SERVICE:
            raise Refused(attempted, f"{bundle.version} is a live service: there is no model to export")
        if to.exists() and (not to.is_dir() or any(to.iterdir())):
            raise Conflict(attempted, f"{to} is there and not empty", "Name a folder that is empty, or none yet.")
        made = not to.exists()
        to.mkdir(parents=True, exist_ok=True)
        try:
            for path, digest in laid_out(bundle):
                _write(to / path, self.blobs.get(digest))
            _write(to / BUNDLE, bundle.encode())
            _write(to / "serve.py", _SERVE.encode())
            _copy_sampan(to / "lib" / "sampan")
            needs = self._needs(attempted, bundle, to)
            left = self._lock(to, needs)
            system = _OPENMP if {"lightgbm", "xgboost"} & {name.lower() for name in needs.packages} else ""
            minor = ".".join(needs.python.split(".")[:2])
            facts = {"version": bundle.version, "bundle": found.bundle[:16], "name": found.name.lower()}
            _write(to / "Dockerfile", _DOCKERFILE.format(**facts, python=minor, system=system).encode())
            told = {**facts, "endpoint": found.name, "python": minor, "body": _example(bundle)}
            _write(to / "README.md", _README.format(**told).encode())
        except BaseException:
            for one in to.iterdir():
                shutil.rmtree(one) if one.is_dir() else one.unlink()
            if made:
                to.rmdir()
            raise
        made_of = {"endpoint": found.name, "version": bundle.version, "bundle": found.bundle, "folder": str(to)}
        return {**made_of, "python": needs.python, "packages": msgspec.to_builtins(needs.packages), "left_out": left}

    def _needs(self, attempted: str, bundle: Any, folder: Path) -> Any:
        """Open it as the container will, in the Python that it is served in."""
        import msgspec

        from sampan.app.packing import Needs
        from sampan.serve.environment import ONE_THREAD, python_for, variables

        python = python_for(bundle, self.blobs)
        command = [python, "-P", "-B", "-m", "sampan.app.packing", str(folder.resolve())]
        environment = {**variables(python), **ONE_THREAD}
        try:
            done = subprocess.run(command, capture_output=True, timeout=_PATIENCE, env=environment, check=False)
            found = msgspec.json.decode(done.stdout, type=Needs)
        except subprocess.TimeoutExpired:
            raise Damaged(attempted, f"opening it took more than {_PATIENCE} s", "See what its rules do.") from None
        except msgspec.DecodeError:
            last = (done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"])[-1][:300]
            raise Damaged(attempted, f"opening it ended with {done.returncode}: {last}") from None
        if found.error:
            raise revive(found.error)
        return found

    def _lock(self, folder: Path, needs: Any) -> list[str]:
        """Write what is to be installed; gives what has to be brought by hand."""
        from sampan.app.environments import requirements

        lines, left = requirements({"packages": needs.packages, "sources": needs.sources})
        _write(folder / "requirements.lock", "".join(f"{line}\n" for line in lines).encode())
        return left


def _example(bundle: Any) -> str:
    """A body that it answers, of zeros and empty texts."""
    import msgspec

    asks = bundle.decision
    record: dict[str, Any] = {} if asks is None else dict.fromkeys([asks.entity, *(asks.context or ())], "")
    record.pop("", None)
    for name, kind in bundle.model.signature.inputs.items():
        record[name] = (
            (bundle.model.signature.categories.get(name) or [""])[0] if kind == "category" else _EXAMPLES.get(kind, "")
        )
    return msgspec.json.encode({"dataframe_records": [record]}).decode().replace("'", "")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _copy_sampan(to: Path) -> None:
    """Of the running Sampan what serves: its modules alone."""
    import sampan

    root = Path(sampan.__file__).parent
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root)
        if inside.parts[0] not in _LEFT_OUT:
            _write(to / inside, path.read_bytes())
