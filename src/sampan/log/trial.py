"""Trying a repair rule in a process of its own, with limits on time and memory: it is code, though the workspace's.

``python -m sampan.log.trial`` reads what to try from its standard input and writes the proposals to its standard
output. What the rule prints goes to standard error.
"""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from sampan.base.clock import SystemClock
from sampan.base.digests import digest_bytes
from sampan.base.errors import BadWorkspace, SampanError, revive
from sampan.base.settings import Settings
from sampan.log.contracts import Contracts
from sampan.log.keys import SubjectKeys
from sampan.log.log import Log
from sampan.log.quarantine import Proposal, Quarantine

SECONDS: Final = 20
_BYTES: Final = 2 << 30


class Trial(msgspec.Struct):
    """What to try. ``digest``: of the rule's text, which must not change between a trial and what follows it."""

    rule: str
    digest: str
    folder: str
    contracts: str
    keys: str
    reason: str | None = None


class Tried(msgspec.Struct):
    """What came of it: proposals, or the error that the rule made."""

    proposals: list[Proposal] = []
    error: dict[str, str] = {}


def propose_apart(
    log: Log, rule: Path, digest: str, *, reason: str | None = None, seconds: int = SECONDS
) -> list[Proposal]:
    """What a rule would do with what waits. Raises BadWorkspace for a rule that fails, hangs or has changed."""
    path = log.contracts.path
    trial = Trial(str(rule), digest, str(log.folder), str(path) if path else "", str(log.keys.path), reason)
    attempted = f"Try rule {rule.name}"
    command = [sys.executable, "-P", "-m", "sampan.log.trial"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            out, said = process.communicate(msgspec.json.encode(trial), timeout=seconds)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)  # the rule may have started processes of its own
            process.communicate()
            raise BadWorkspace(attempted, f"it took more than {seconds} s", "Nothing was changed.") from None
    try:
        tried = msgspec.json.decode(out, type=Tried)
    except msgspec.MsgspecError:
        last = said.decode(errors="replace").strip()[-300:] or "nothing"
        raise BadWorkspace(
            attempted, f"its process ended with {process.returncode}; it last said: {last}", "Nothing was changed."
        ) from None
    if tried.error:
        raise revive(tried.error, BadWorkspace)
    return tried.proposals


def _limit() -> None:
    import resource

    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _try(trial: Trial) -> Tried:
    try:
        path = Path(trial.rule)
        if digest_bytes(path.read_bytes()) != trial.digest:
            raise BadWorkspace(f"Try rule {path.name}", "its file has changed since", "Look at it again, then try it.")
        contracts = Contracts.load(Path(trial.contracts)) if trial.contracts else Contracts()
        keys = SubjectKeys(Path(trial.keys))
        log = Log(Path(trial.folder), contracts, SystemClock(), Settings(), keys)
        return Tried(Quarantine(log).propose(path, reason=trial.reason))
    except SampanError as error:
        return Tried(error=error.body()["error"])


def main() -> None:
    """Try, answer, end."""
    given = msgspec.json.decode(sys.stdin.buffer.read(), type=Trial)
    answer = os.dup(1)
    os.dup2(2, 1)  # what the rule prints must not stand in the answer
    _limit()
    with open(answer, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
        file.write(msgspec.json.encode(_try(given)))


if __name__ == "__main__":
    main()
