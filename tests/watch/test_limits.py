"""[alerts] of sampan.toml: what is wrong is said with its key and value, and no secret is ever shown."""

import tomllib
from typing import Any

import pytest

from sampan.base.errors import BadSetting
from sampan.watch.limits import LIMITS, Alerting, Limits, read_alerting


def read(text: str, **environ: str) -> Alerting:
    return read_alerting(tomllib.loads(text), environ)


def test_nothing_said_means_defaults_and_nobody_to_tell() -> None:
    assert read("") == Alerting()


def test_targets_and_webhooks_with_secrets_from_the_environment() -> None:
    found = read(
        """
        [alerts]
        targets = ["slack://a/b/c", "env:MAIL"]
        allow_private = ["127.0.0.1:9000", "[::1]:9000"]
        every = 2
        [[alerts.webhooks]]
        url = "https://hooks.example.com/x"
        secret_env = "HOOK_SECRET"
        [[alerts.webhooks]]
        name = "pager"
        url_env = "PAGER"
        secret = "0123456789abcdef"
        [alerts.limits]
        quarantined_share = 0.1
        conform = false
        """,
        MAIL="mailto://me:word@example.com",
        HOOK_SECRET="this is a long secret",
        PAGER="https://pager.example.com:8443/tok",
    )
    assert [target.name for target in found.targets] == ["slack 1", "MAIL", "hooks.example.com", "pager"]
    assert found.targets[2].secret == "this is a long secret"
    assert found.targets[3].url == "https://pager.example.com:8443/tok"
    assert found.limits == Limits(quarantined_share=0.1, conform=False)
    assert found.allow_private == {("127.0.0.1", 9000), ("::1", 9000)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[alerts.limits]\nquarantined_share = 2", ["quarantined_share", "2", "between 0 and 1"]),
        ('[alerts.limits]\nquarantined_share = "much"', ["quarantined_share", "'much'", "float"]),
        ("[alerts.limits]\nquarantined_sahre = 0.1", ["quarantined_sahre", "Known: quarantined_share"]),
        ("[alerts.limits]\nfailed_runs = 3", ["failed_runs = 3", "bool"]),
        ("[alerts]\nevery = 300", ["every", "300"]),
        ("[alerts]\ntarget = []", ["target", "Known: targets"]),
        ('[alerts]\ntargets = "slack://x"', ["targets", "array"]),
        ('[alerts]\ntargets = ["nonsense"]', ["targets", "number 1"]),
        ('[alerts]\ntargets = ["env:NOT_THERE"]', ["targets", "NOT_THERE"]),
        ('[alerts]\nallow_private = ["localhost:80"]', ["allow_private", "'localhost:80'"]),
        ('[alerts]\nallow_private = ["10.0.0.1"]', ["allow_private", "'10.0.0.1'"]),
        ('[[alerts.webhooks]]\nurl = "ftp://x"\nsecret = "0123456789abcdef"', ["webhooks number 1", "http"]),
        ('[[alerts.webhooks]]\nurl = "https://x"', ["webhooks number 1", "no secret"]),
        ('[[alerts.webhooks]]\nurl = "https://x"\nsecret_env = "NOPE"', ["secret_env", "NOPE"]),
        (
            '[[alerts.webhooks]]\nurl = "https://x"\nsecret = "0123456789abcdef"\n' * 2,
            ["two targets are called 'x'", "name ="],
        ),
        ("alerts = 3", ["[alerts]"]),
    ],
)
def test_what_is_wrong_is_said_with_its_key(text: str, says: list[str]) -> None:
    with pytest.raises(BadSetting) as caught:
        read(text)
    for part in says:
        assert part in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '[[alerts.webhooks]]\nurl = "https://me:hunter2@x/"\nsecret = "0123456789abcdef"',
        '[[alerts.webhooks]]\nurl = "https://x/hunter2"\nsecret = "hunter2"',
        '[[alerts.webhooks]]\nurl = "https://x/"\nsecrets = "hunter2hunter2hunter2"',
        '[alerts]\ntargets = ["hunter2"]',
        '[alerts]\ntargets = "slack://hunter2"',
    ],
)
def test_no_complaint_shows_a_secret(text: str) -> None:
    with pytest.raises(BadSetting) as caught:
        read(text)
    assert "hunter2" not in str(caught.value)


def test_who_only_looks_needs_no_secret() -> None:
    told = {"webhooks": [{"url": "https://x.example", "secret_env": "NOT_HERE"}], "targets": ["env:NOT_HERE"]}
    found = read_alerting({"alerts": told}, {}, to_send=False)
    assert [target.name for target in found.targets] == ["NOT_HERE", "x.example"]


def test_every_limit_is_explained_and_its_default_allowed() -> None:
    defaults: dict[str, Any] = {name: getattr(Limits(), name) for name in Limits.__struct_fields__}
    assert list(LIMITS) == list(defaults)
    assert read_alerting({"alerts": {"limits": defaults}}, {}) == Alerting()
