"""The pages on alerts and operation: their settings are read, their code verifies, their figures are there."""

import json
import re
import time
import tomllib

import msgspec

from sampan.watch.alerts import KINDS, Message
from sampan.watch.limits import read_alerting
from sampan.watch.webhook import sign
from tests.docs.test_how_to import PAGES, blocks, page


def test_the_settings_shown_are_read() -> None:
    whole, private = blocks("alerts", "toml")
    found = read_alerting(tomllib.loads(whole), {"TEAM_CHAT": "slack://a/b/c", "PAGER_SECRET": "0123456789abcdef"})
    assert [target.name for target in found.targets] == ["TEAM_CHAT", "pager"]
    assert found.limits.quarantined_share == 0.05
    assert read_alerting(tomllib.loads(private), {}).allow_private == {("10.1.2.3", 9000)}


def test_the_message_shown_is_one_and_the_snippet_verifies_it() -> None:
    body = blocks("alerts", "json")[0].encode()
    assert msgspec.json.decode(body, type=Message).alert.producer == "till"
    assert set(json.loads(body)["alert"]) == set(msgspec.json.schema(Message)["$defs"]["Alert"]["properties"])
    names: dict[str, object] = {}
    exec(blocks("alerts", "python")[0], names)
    is_ours = names["is_ours"]
    assert callable(is_ours)
    now = int(time.time())
    assert is_ours("secret", body, sign("secret", body, now))
    assert not is_ours("secret", body + b" ", sign("secret", body, now))
    assert not is_ours("other", body, sign("secret", body, now))
    assert not is_ours("secret", body, sign("secret", body, now - 400))


def test_every_kind_is_explained() -> None:
    assert re.findall(r"^\| `(\w+)` \| ", page("alerts"), re.MULTILINE) == list(KINDS)


def test_every_figure_shown_is_one() -> None:
    source = (PAGES.parent.parent / "src" / "sampan" / "app" / "vitals.py").read_text()
    made = set(re.findall(r'"(sampan_\w+)"', source)) - {"sampan_build_info"}
    assert set(re.findall(r"`(sampan_\w+)", page("operate"))) == made
