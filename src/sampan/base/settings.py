"""The one table of settings: name, default, help, environment name. ``docs/reference/settings.md`` is made from it.

A value comes from the environment, else from ``[settings]`` in ``sampan.toml``, else from the default.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sampan.base.errors import BadSetting, BadWorkspace, NotFound


@dataclass(frozen=True)
class Setting:
    name: str
    default: Any
    help: str

    @property
    def env(self) -> str:
        return "SAMPAN_" + self.name.upper()


SETTINGS: Final = tuple(
    Setting(*row)
    for row in (
        ("host", "127.0.0.1", "Address that the hub listens on."),
        ("port", 7267, "Port that the hub listens on; 0 takes a free one."),
        ("url", "", "Address of a running hub; empty: the one of this workspace, if it is up."),
        ("token", "", "Bearer token sent by commands; `sampan up` accepts it too. Empty: the token file."),
        ("allowed_hosts", "", "Further Host names that the hub answers to, separated by commas."),
        ("public_url", "", "Address of the hub as people reach it, for links in alerts; empty: the one it listens on."),
        ("body_limit", 16_777_216, "Largest request body in bytes, before and after decompression."),
        ("artifact_limit", 5_368_709_120, "Largest artifact of a logged run or model in bytes, whole or in parts."),
        ("queue_limit", 67_108_864, "Bytes of events that may wait for the disk before intake answers 503."),
        ("segment_bytes", 67_108_864, "Bytes after which a log segment is sealed."),
        ("segment_events", 500_000, "Events after which a log segment is sealed."),
        ("segment_seconds", 3_600, "Age in seconds after which a non-empty log segment is sealed."),
        (
            "serve_host",
            "127.0.0.1",
            "Address on which serving processes are asked directly, each on its own port; none: through the hub only.",
        ),
        (
            "serve_ports",
            "",
            "Their ports, as reorder=9001, separated by commas; any other endpoint gets a free one, which it keeps.",
        ),
        ("predict_queue", 1_024, "Requests to one endpoint that may be under way before it answers 503."),
        ("predict_timeout", 10, "Seconds after which a request to an endpoint gives up and its process is replaced."),
        ("load_timeout", 60, "Seconds in which an endpoint's model and rules must have loaded; then a deploy fails."),
        (
            "candidate_timeout",
            1_000,
            "Milliseconds in which a rollout's candidate has to answer; then the champion does.",
        ),
        ("candidate_queue", 64, "Requests that may wait for a rollout's candidate; the champion answers any more."),
        (
            "warm_for",
            86_400,
            "Seconds in which what an endpoint served before stays loaded, to go back to at once; 0: it does not.",
        ),
        (
            "private_services",
            "",
            "ADDRESS:PORT of adopted services in private networks that endpoints may call, separated by commas.",
        ),
        (
            "serve_in",
            "model",
            "Which environment a version is served in: hub (what is installed), model (that of its run, where Python or"
            " the model's own library are others now), recorded (that of its run, where any package is another now).",
        ),
        (
            "serve_onnx",
            "yes",
            "Whether a version that was converted to ONNX and compared is served so from its next deploy: yes or no.",
        ),
        (
            "require_signature",
            "off",
            "Whether endpoints serve versions that no key of [signing] has signed: off (they do), warn, enforce.",
        ),
        ("warm_bundles", 1, "Bundles of one endpoint that stay loaded so; each takes the memory of a serving process."),
        ("rollout_every", 10, "Seconds between two looks at a rollout's KPI; how it answers is looked at every 2."),
        ("workers", 0, "Steps that run at the same time; 0: one per processor."),
        (
            "memory",
            "80%",
            "Memory that running steps may use together, in bytes or as a share of the machine.",
        ),
        ("clock", "", "File of a shared time-lapse clock; empty: the machine's clock."),
        ("metrics_public", "no", "Whether anybody may read /metrics without a token: yes or no."),
        ("log_level", "warning", "What the hub says on standard error: debug, info, warning, error."),
        ("log_format", "text", "How it says it: text, or json for one object a line."),
        ("color", "auto", "Colours in the terminal: auto, always, never."),
    )
)
_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}


class Settings:
    """Values of the settings for one workspace (or for none)."""

    def __init__(self, values: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})
        self._environ = os.environ if environ is None else environ
        for name in self._values:
            if name not in _BY_NAME:
                known = ", ".join(sorted(_BY_NAME))
                raise BadSetting("Read [settings] in sampan.toml", f"unknown setting {name!r}", f"Known: {known}.")

    def get(self, name: str) -> Any:
        """The value in force. Raises BadSetting for a value of the wrong type."""
        setting = _BY_NAME[name]
        raw = self._environ.get(setting.env) or self._values.get(name, setting.default)
        if isinstance(setting.default, int):
            try:
                return int(raw)
            except (TypeError, ValueError):
                where = setting.env if self._environ.get(setting.env) else f"[settings] {name}"
                raise BadSetting(f"Read {where}", f"{raw!r} is not a whole number", setting.help) from None
        return str(raw)

    def yes(self, name: str) -> bool:
        """Whether a setting that is yes or no says yes. Raises BadSetting for anything else."""
        value = self.get(name).lower()
        if value in ("yes", "true", "1", "on"):
            return True
        if value in ("no", "false", "0", "off", ""):
            return False
        raise BadSetting(f"Read {name}", f"{value!r} is neither yes nor no", _BY_NAME[name].help)

    def origin(self, name: str) -> str:
        """Where the value in force comes from."""
        if self._environ.get(_BY_NAME[name].env):
            return _BY_NAME[name].env
        return "sampan.toml" if name in self._values else "default"


@dataclass(frozen=True)
class Folder:
    """Where a workspace's files lie. ``root`` holds sampan.toml; ``data`` is ``.sampan`` in it, or in ``home``, where
    the root is another state of that workspace's code."""

    root: Path
    home: Path | None = None

    @property
    def data(self) -> Path:
        return (self.home or self.root) / ".sampan"

    def config(self) -> dict[str, Any]:
        """The parsed sampan.toml. Raises BadWorkspace with the line that does not parse."""
        path = self.root / "sampan.toml"
        try:
            return tomllib.loads(path.read_text("utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise BadWorkspace(f"Read {path}", str(error), "Mend that line and try again.") from error
        except UnicodeDecodeError as error:
            raise BadWorkspace(f"Read {path}", f"not UTF-8 text at byte {error.start}") from error

    def settings(self) -> Settings:
        return Settings(self.config().get("settings", {}))


def find_folder(start: Path | None = None) -> Folder:
    """The workspace that holds ``start`` (default: the current folder). Raises NotFound outside of one."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "sampan.toml").is_file():
            return Folder(folder)
    raise NotFound(
        "Find the workspace",
        f"no sampan.toml in {here} or above it",
        "Run `sampan init NAME` to make one, go into its folder, or name it: `sampan -C DIR …`.",
    )
