"""Whether the hub may be reached from other machines."""

import ipaddress
from contextlib import suppress

from sampan.base.errors import BadSetting
from sampan.base.settings import Settings
from sampan.serve.doors import NOWHERE
from sampan.store.database import Database


def check_exposure(host: str, settings: Settings, db: Database) -> None:
    """Other machines may reach this hub, or a serving process, only when somebody has decided who and under which
    name."""
    if host == NOWHERE:
        return
    with suppress(ValueError):
        if host == "localhost" or ipaddress.ip_address(host).is_loopback:
            return
    missing = []
    if not settings.get("allowed_hosts"):
        missing.append("the names it will be called by: SAMPAN_ALLOWED_HOSTS=hub.example.com,hub.example.com:443")
    if not settings.get("token") and not db.row("SELECT 1 FROM tokens WHERE revoked IS NULL"):
        missing.append("who may sign in: SAMPAN_TOKEN, or `sampan token create NAME --role admin` before the start")
    if missing:
        needs = "".join(f"\n    - {line}" for line in missing)
        raise BadSetting(
            f"Listen on {host}",
            f"other machines could reach the hub there, and it has not been told{needs}",
            "Set them, and put TLS in front of it; or leave --host and serve_host out to listen on this machine only.",
        )
