"""A unit that changes on the way: a few thousand real lines, of which one source gives the prices in pence.

Events are never taken back, so it happens in a workspace of its own, which is thrown away: the contracts are those of
the demo, the lines are sent by the tills in GBP and by the web shop a hundred times as large.
"""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory

from sampan.base.errors import SampanError
from sampan.demo.hub import command, run_command


def caught(contracts: Path, events: Iterable[bytes]) -> str:
    """What ``sampan log conform`` says of such events. Raises SampanError if it finds nothing wrong with prices."""
    with TemporaryDirectory(prefix="sampan-pence-") as made:
        folder = Path(made) / "pence"
        run_command(None, "init", str(folder), "--template", "empty", "--no-lock")
        for file in (*(folder / "tables").iterdir(), *(folder / "checks").iterdir(), folder / "steps.py"):
            file.unlink(missing_ok=True)
        copy(contracts, folder / "contracts.py")
        lines = folder / "lines.ndjson"
        lines.write_bytes(b"\n".join(events))
        run_command(folder, "log", "load", str(lines))
        asked = command(folder, "log", "conform", "order_line", "--json")
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        findings = json.loads(done.stdout)["findings"] if done.returncode in (0, 1) else []
        for finding in findings:
            if finding["field"] == "unit_price" and done.returncode == 1:
                return f"{finding['field']} from {', '.join(finding['sources'])} {finding['text']}"
        raise SampanError("Compare prices in pence", f"nothing was found: {done.stdout or done.stderr}")
