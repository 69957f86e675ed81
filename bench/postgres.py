"""A Postgres cluster of our own on a loopback port, run by an unprivileged user, stopped at the end."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.place import Unavailable

PORT = 15_432
ADDRESS = f"postgresql://bench@127.0.0.1:{PORT}/postgres"
# Durability as by default (fsync and synchronous_commit on); more memory and fewer checkpoints than by default.
OPTIONS = {"listen_addresses": "127.0.0.1", "shared_buffers": "512MB", "max_wal_size": "4GB"}


def _programs() -> Path:
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    if found := shutil.which("initdb"):
        return Path(found).parent
    raise Unavailable("Postgres is not installed (Debian: apt-get install postgresql)")


def _unprivileged() -> dict[str, Any]:
    """Postgres refuses to run as root."""
    if os.geteuid():
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    raise Unavailable("there is no unprivileged user to run Postgres as")


@contextlib.contextmanager
def running() -> Iterator[None]:
    """Start a fresh cluster and stop it in the end. Raises Unavailable where there is no Postgres."""
    programs, identity = _programs(), _unprivileged()
    with tempfile.TemporaryDirectory(prefix="sampan-bench-postgres-") as name:
        folder = Path(name)
        if identity:
            os.chown(folder, identity["user"], identity["group"])
        data = folder / "data"

        def call(program: str, *arguments: str) -> None:
            log = folder / f"{program}.log"
            with log.open("a") as output:
                command = [str(programs / program), "-D", str(data), *arguments]
                code = subprocess.run(
                    command, stdout=output, stderr=output, cwd="/", check=False, **identity
                ).returncode
            if code:
                raise Unavailable(f"{program} failed: {log.read_text().strip()[-200:]}")

        call("initdb", "-U", "bench", "-A", "trust", "-E", "UTF8", "--no-locale")
        options = " ".join(f"-c {name}={value}" for name, value in OPTIONS.items())
        call("pg_ctl", "-w", "-l", str(data / "server.log"), "-o", f"-p {PORT} {options} -k {folder}", "start")
        try:
            yield
        finally:
            call("pg_ctl", "-m", "fast", "-w", "stop")


def ask(query: str) -> str:
    """Run a query with psql."""
    done = subprocess.run(["psql", ADDRESS, "-Atqc", query], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"psql: {done.stderr.strip()[-200:]}")
    return done.stdout.strip()
