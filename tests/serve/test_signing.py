"""With ``require_signature = "enforce"``, unsigned or wrongly signed versions never serve (R37)."""

import asyncio
import itertools
import json
import sqlite3
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from serving_shop import RULES, Shop, body, record, told
from test_bad_input import flip
from tests.hub.conftest import Hub, sampan
from tests.rollout_plan import BETTER, plan

from sampan.base.errors import BadSetting, Damaged, Refused, Usage
from sampan.models.signatures import SignatureRequest, Signatures
from sampan.models.signing import content_of, key_id, new_key, open_key, public_line, read_trust, sign, statement
from sampan.serve.warm import load

BODY = body(record())
KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def trust(root: Path, mode: str = "enforce", **keys: Ed25519PrivateKey) -> None:
    lines = "".join(f'{name} = "{public_line(key)}"\n' for name, key in keys.items())
    (root / "sampan.toml").write_text(f'[settings]\nrequire_signature = "{mode}"\n\n[signing]\n{lines}')


def vouch(shop: Shop, ref: str, key: Ed25519PrivateKey = KEY) -> Any:
    version = shop.models.get(ref)
    id, made = sign(key, version.model, version.number, version.digest)
    asked = SignatureRequest(ref=version.ref, key=id, signature=made, reason="looked at")
    return Signatures(shop.db, shop.endpoints._clock).add(version, asked, read_trust(shop.folder), actor="ann")


def loaded(shop: Shop, signatures: Any = None) -> str:
    """What the serving process itself says to the bundle in force, whatever the hub found; empty if it loads it."""
    bundle = shop.endpoints.bundle(shop.endpoints.get("reorder").bundle)
    given = shop.endpoints.signatures(bundle) if signatures is None else signatures

    async def begin() -> str:
        try:
            worker = await load(shop.root.resolve(), "reorder", bundle, signatures=given)
        except Refused as error:
            return error.obstacle
        await worker.kill()
        return ""

    return asyncio.run(begin())


def unsigned(shop: Shop) -> None:
    pass


def untrusted(shop: Shop) -> None:
    vouch(shop, "reorder@1", OTHER)


def moved(shop: Shop) -> None:
    """The signature of another version, written under this one."""
    shop.register(FITTED[0](9))
    vouch(shop, "reorder@2")
    with shop.db.transaction() as records:
        records.execute("UPDATE model_signatures SET number = 1")


def other_name(shop: Shop) -> None:
    """The same content under another name: a signature is of the name, too."""
    shop.models.register(shop.models.get("reorder").draft(), "copy")
    vouch(shop, "copy@1")
    with shop.db.transaction() as records:
        records.execute("UPDATE model_signatures SET model = 'reorder'")


def changed(shop: Shop) -> None:
    vouch(shop, "reorder@1")
    with shop.db.transaction() as records:
        records.execute(
            "UPDATE model_signatures SET signature = 'A' || substr(signature, 2) WHERE signature NOT LIKE 'A%'"
        )
        records.execute(
            "UPDATE model_signatures SET signature = 'B' || substr(signature, 2) WHERE signature LIKE 'AA%'"
        )


def form_added(shop: Shop) -> None:
    """A record that says the signature covers an ONNX form which it does not."""
    vouch(shop, "reorder@1")
    with shop.db.transaction() as records:
        records.execute("UPDATE model_signatures SET onnx = 'ab12'")


def key_removed(shop: Shop) -> None:
    vouch(shop, "reorder@1")
    trust(shop.root, other=OTHER)


FITTED: list[Callable[[int], Any]] = []
WRONG = {
    unsigned: "nobody has signed it",
    untrusted: f"it is signed by the key {key_id(OTHER.public_key().public_bytes_raw())}, which [signing] does not",
    moved: "the signature by release is not one of this content, name and number",
    other_name: "the signature by release is not one of this content, name and number",
    changed: "the signature by release is not one of this content, name and number",
    form_added: "the signature by release is not one of this content, name and number",
    key_removed: f"it is signed by the key {key_id(KEY.public_key().public_bytes_raw())}, which [signing] does not",
}


@pytest.fixture(autouse=True)
def _fitted(fitted: Callable[[int], Any]) -> None:
    FITTED[:] = [fitted]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda one: one.__name__)
def test_the_process_refuses_it_by_itself_and_nobody_deploys_it(shop: Shop, wrong: Callable[[Shop], None]) -> None:
    trust(shop.root, release=KEY)
    wrong(shop)
    assert WRONG[wrong] in loaded(shop)
    with pytest.raises(Refused) as found:
        shop.deploy("reorder@1", "again")
    assert WRONG[wrong] in found.value.obstacle and "`sampan model sign reorder@1 --key" in found.value.advice
    assert shop.endpoints.find("again") is None


def test_what_is_signed_is_served_and_only_where_its_signature_is_carried(shop: Shop) -> None:
    trust(shop.root, release=KEY)
    vouch(shop, "reorder@1")
    assert vouch(shop, "reorder@1").actor == "ann", "kept once"
    assert loaded(shop) == ""
    assert "nobody has signed it" in loaded(shop, ()), "a hub that says nothing is not believed"
    assert shop.deploy("reorder@1", "again").name == "again"


def test_a_swapped_file_is_not_served_whatever_is_signed(shop: Shop) -> None:
    trust(shop.root, release=KEY)
    vouch(shop, "reorder@1")
    flip(shop.blobs.path(next(iter(shop.models.get("reorder").files.values()))))
    with pytest.raises(Damaged, match="digest"):
        loaded(shop)


def test_a_bundle_of_other_files_under_a_signed_name_is_not_served(shop: Shop) -> None:
    """Who can write the records may make a bundle of his own: what counts is what it would load."""
    import msgspec

    trust(shop.root, release=KEY)
    vouch(shop, "reorder@1")
    other = shop.register(FITTED[0](9))
    now = shop.endpoints.get("reorder")
    bundle = shop.endpoints.bundle(now.bundle)
    for model in (
        msgspec.structs.replace(bundle.model, files=other.files),
        msgspec.structs.replace(bundle.model, files=other.files, digest=other.digest),
        msgspec.structs.replace(bundle.model, onnx=msgspec.convert({"digest": "ab" * 32}, type(other.onnx or _form()))),
    ):
        forged = msgspec.structs.replace(bundle, model=model)
        with shop.db.transaction() as records:
            records.execute("UPDATE endpoints SET bundle = ?", (shop.blobs.put(forged.encode()),))
        assert loaded(shop)


def _form() -> Any:
    from sampan.models.version import OnnxFile

    return OnnxFile()


def asked(shop: Shop) -> Any:
    async def ask() -> Any:
        async with shop.serving() as serving:
            answer = await serving.predict("reorder", BODY)
            return answer, serving.status()[0]

    return asyncio.run(ask())


def test_what_was_in_force_unsigned_does_not_serve_after_a_restart_and_says_why(shop: Shop) -> None:
    trust(shop.root, release=KEY)
    answer, state = asked(shop)
    assert answer.status == 503 and "reorder@1: nobody has signed it" in answer.body.decode()
    assert state.state == "down" and "sampan model sign reorder@1" in state.error


def test_its_fallback_answers_in_its_place(shop: Shop) -> None:
    (shop.root / "decisions.py").write_text(RULES.replace("values=", "fallback=0.25, values="))
    shop.deploy("reorder@1")
    trust(shop.root, release=KEY)
    answer, state = asked(shop)
    (one,) = told(answer)["predictions"]
    assert (one["prediction"], state.state) == (0.25, "serving") and "nobody has signed it" in one["fallback"]


def test_what_was_in_force_before_answers_for_it_only_if_it_is_signed_too(shop: Shop) -> None:
    rules = RULES.replace("import Action", "import PREVIOUS, Action").replace("values=", "fallback=PREVIOUS, values=")
    (shop.root / "decisions.py").write_text(rules)
    shop.register(FITTED[0](9))
    shop.deploy("reorder@2")
    trust(shop.root, release=KEY)
    answer, _ = asked(shop)
    assert answer.status == 500 and "nobody has signed it" in answer.body.decode()
    vouch(shop, "reorder@1")
    answer, state = asked(shop)
    (one,) = told(answer)["predictions"]
    assert one["fallback"] == state.silent and "nobody has signed it" in state.silent


def test_other_thresholds_and_going_back_take_a_signature_too(shop: Shop) -> None:
    shop.register(FITTED[0](9))
    first, now = shop.endpoints.get("reorder"), shop.deploy("reorder@2")
    trust(shop.root, release=KEY)
    changed = shop.endpoints.with_thresholds(now.bundle, {"likely": 0.7})
    with pytest.raises(Refused, match="nobody has signed it"):
        shop.endpoints.of_bundle("reorder", changed, actor="tester")
    with pytest.raises(Refused, match="nobody has signed it"):
        shop.endpoints.back(now, first, actor="tester")
    vouch(shop, "reorder@1")
    back = shop.endpoints.back(now, first, actor="tester")
    trust(shop.root)
    with pytest.raises(Refused, match="does not name"):
        shop.endpoints.add(back, now)  # the key was taken out meanwhile
    trust(shop.root, release=KEY)
    assert shop.endpoints.add(back, now).spec.version == "reorder@1"


def test_a_warning_serves_it_and_is_said(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    trust(shop.root, "warn", release=KEY)
    answer, _ = asked(shop)
    assert answer.status == 200 and "reorder is to serve reorder@1: nobody has signed it" in caplog.text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[settings]\nrequire_signature = "yes"\n', "'yes' is none of off, warn, enforce"),
        ('signing = "release"\n', "no table"),
        ("[signing]\nann = 3\n", "'3' is no text"),
        ('[signing]\nann = "c2hvcnQ="\n', "no public key"),
        ('[signing]\nann = "-----BEGIN PRIVATE KEY-----\\nMC4=\\n"\n', "it is a private key"),
        (
            '[signing]\nann = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0RP6hfMrW5wmM2y7g4M7rYlH0vk2nqfD3yQ0w0m6s2c="\n',
            "no public key",
        ),
    ],
)
def test_settings_that_say_nothing_clear_are_refused_and_nothing_is_deployed(shop: Shop, text: str, says: str) -> None:
    (shop.root / "sampan.toml").write_text(text)
    with pytest.raises(BadSetting) as found:
        shop.deploy("reorder@1", "again")
    assert says in found.value.obstacle and shop.endpoints.find("again") is None


def test_openssl_and_we_read_each_others_keys_and_signatures(shop: Shop, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(theirs)], check=True)
    public = subprocess.run(["openssl", "pkey", "-in", str(theirs), "-pubout"], check=True, capture_output=True).stdout
    (shop.root / "sampan.toml").write_text(f"[signing]\nrelease = '''\n{public.decode()}'''\n")
    key = open_key("Sign", theirs.read_bytes())
    assert key is not None and vouch(shop, "reorder@1", key).key in read_trust(shop.folder).keys
    version = shop.models.get("reorder@1")
    (tmp_path / "said").write_bytes(statement("reorder", 1, content_of(version)))
    (tmp_path / "signature").write_bytes(key.sign((tmp_path / "said").read_bytes()))
    how = ["openssl", "pkeyutl", "-verify", "-rawin", "-inkey", str(theirs)]
    files = ["-in", str(tmp_path / "said"), "-sigfile", str(tmp_path / "signature")]
    assert subprocess.run([*how, *files], check=False).returncode == 0


def test_a_key_may_have_a_passphrase_and_no_other_file_is_taken_for_one(tmp_path: Path) -> None:
    locked = tmp_path / "locked.pem"
    make = ["openssl", "genpkey", "-algorithm", "ed25519", "-aes-256-cbc", "-pass", "pass:secret", "-out", str(locked)]
    subprocess.run(make, check=True)
    assert open_key("Sign", locked.read_bytes()) is None and open_key("Sign", locked.read_bytes(), "secret")
    with pytest.raises(Usage, match="passphrase"):
        open_key("Sign", locked.read_bytes(), "guess")
    for odd in (b"", b"-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n", b"\x80\x04."):
        with pytest.raises(Usage, match="no private key"):
            open_key("Sign", odd)
    pem, public = new_key()
    made = open_key("Sign", pem)
    assert made is not None and public_line(made) == public


def test_a_hub_keeps_claims_and_refuses_what_a_trusted_key_has_not_signed(shop: Shop) -> None:
    trust(shop.root, release=KEY)
    id, made = sign(KEY, "reorder", 2, shop.models.get("reorder").digest)
    records, version = Signatures(shop.db, shop.endpoints._clock), shop.models.get("reorder@1")
    for given, kind in (
        ({"key": id, "signature": made}, Refused),
        ({"key": id, "signature": made, "onnx": "ab12"}, Refused),
        ({"key": "../../etc", "signature": made}, Usage),
        ({"key": id, "signature": "c2hvcnQ="}, Usage),
        ({"key": id, "signature": "no base64 ä"}, Usage),
    ):
        asked = SignatureRequest(ref="reorder@1", **given)
        with pytest.raises(kind):
            records.add(version, asked, read_trust(shop.folder), actor="ann")
    assert records.list("reorder", 1) == []


PLAN = plan("reorder", (0, "1 second"), query=BETTER, top="units = 30")


@pytest.mark.slow
def test_a_rollout_goes_no_further_once_its_key_is_taken_out_and_on_once_it_is_back(shop: Shop) -> None:
    shop.register(FITTED[0](9))
    (shop.root / "rollouts.toml").write_text(PLAN)
    trust(shop.root, release=KEY)
    vouch(shop, "reorder@1")
    vouch(shop, "reorder@2")
    shop.close()
    root = shop.root
    hub = Hub(root, SAMPAN_ROLLOUT_EVERY="1")
    numbers = itertools.count()

    def asked_until(phase: str, patience: float) -> tuple[str, str]:
        """Ask until a rollout is in a phase, or for so long; who answered last, and the phase."""
        until = time.monotonic() + patience
        while True:
            answer = json.loads(hub.predict("reorder", body(record(customer_id=next(numbers))))[1])
            found = hub.json("/rollouts")["rollouts"][0]["phase"]
            if found == phase or time.monotonic() > until:
                return answer["predictions"][0]["version"], found
            time.sleep(0.02)

    try:
        assert hub.predict("reorder", BODY)[0] == 200
        started = sampan(root, "rollout", "start", "reorder", "--model", "reorder@2", "--reason", "new")
        assert started.returncode == 0, started.stderr
        trust(root, other=OTHER)
        assert asked_until("full", 6) == ("reorder@1", "running")
        assert sampan(root, "rollout", "pause", "reorder", "--reason", "why?").returncode == 0
        said = sampan(root, "rollout", "resume", "reorder", "--reason", "so that")
        assert said.returncode == 1 and "which [signing] does not name" in said.stderr, said
        trust(root, release=KEY)
        assert sampan(root, "rollout", "resume", "reorder", "--reason", "it is back").returncode == 0
        assert asked_until("full", 40)[1] == "full"
        assert asked_until("none", 1)[0] == "reorder@2"
        trust(root, other=OTHER)
        assert "does not name" in sampan(root, "rollback", "reorder", "--reason", "back").stderr
    finally:
        assert hub.stop() == 0


GUARDED = PLAN + '[[reorder.guardrail]]\nkind = "error_rate"\nat_most = 0.05\n'


@pytest.mark.slow
@pytest.mark.parametrize("warm", [True, False])
def test_a_breach_goes_back_to_an_unsigned_champion_that_is_still_loaded_and_to_another_once_it_is_signed(
    shop: Shop, tmp_path: Path, warm: bool
) -> None:
    shop.register(FITTED[0](9))
    (shop.root / "rollouts.toml").write_text(GUARDED)
    (shop.root / "sampan.toml").write_text("")
    shop.close()
    root, pem = shop.root, tmp_path / "release.pem"
    line = sampan(root, "model", "key", str(pem)).stdout
    hub = Hub(root, SAMPAN_ROLLOUT_EVERY="1", **({} if warm else {"SAMPAN_WARM_FOR": "0"}))
    numbers = itertools.count()

    def until(what: Callable[[], Any], **more: Any) -> Any:
        """Ask until something is so; gives it."""
        end = time.monotonic() + 60
        while not (found := what()):
            assert time.monotonic() < end
            hub.predict("reorder", body(record(customer_id=next(numbers), **more)))
            time.sleep(0.02)
        return found

    def phase() -> str:
        return str(hub.json("/rollouts")["rollouts"][0]["phase"])

    def serves() -> str:
        return str(hub.json("/endpoints/reorder")["endpoint"]["version"])

    def told(title: str) -> Any:
        return next((one["alert"] for one in hub.json("/alerts")["open"] if title in one["alert"]["title"]), None)

    def run(*words: str, code: int = 0) -> str:
        done = sampan(root, *words)
        assert done.returncode == code and "Traceback" not in done.stderr, done
        return done.stdout + done.stderr

    try:
        run("rollout", "start", "reorder", "--model", "reorder@2", "--reason", "new")
        until(lambda: phase() == "full" and serves() == "reorder@2")
        (root / "sampan.toml").write_text(f'[settings]\nrequire_signature = "enforce"\n\n{line}')
        run("model", "sign", "reorder@2", "--key", str(pem))
        assert "nobody has signed it" in run("rollback", "reorder", "--reason", "I want to", code=1)
        assert (phase(), serves()) == ("full", "reorder@2"), "what could not be done was written down"
        until(lambda: phase() == "reverted", crash="sails")
        if warm:
            until(lambda: serves() == "reorder@1")
            assert "until its process starts anew: nobody has signed it" in until(lambda: told("taken back"))["cause"]
        else:
            alert = until(lambda: told("reorder@2 could not be taken back from reorder, and answers"))
            assert "nobody has signed it" in alert["reason"] and "sampan model sign reorder@1" in alert["action"]
            assert serves() == "reorder@2"
            run("model", "sign", "reorder@1", "--key", str(pem))
            until(lambda: serves() == "reorder@1")
        until(lambda: not told("could not be taken back"))
        if warm:
            said = run("rollout", "start", "reorder", "--model", "reorder@2", "--reason", "again", code=1)
            assert "could not go back to reorder@1: nobody has signed it" in said
    finally:
        assert hub.stop() == 0


@pytest.mark.slow
def test_what_is_adopted_is_signed_before_it_serves(shop: Shop, tmp_path: Path) -> None:
    version = shop.models.get("reorder@1")
    (name, digest) = next(iter(version.files.items()))
    file, pem = tmp_path / name, tmp_path / "release.pem"
    file.write_bytes(shop.blobs.get(digest))
    shop.close()
    line = sampan(shop.root, "model", "key", str(pem)).stdout
    (shop.root / "sampan.toml").write_text(f'[settings]\nrequire_signature = "enforce"\n{line}')
    (shop.root / "decisions.py").unlink()
    adopt = ("endpoint", "adopt", "mine", str(file), "--features", "orders,recency,spend")
    said = sampan(shop.root, *adopt)
    assert said.returncode == 1 and "nobody has signed it" in said.stderr, said.stderr
    assert sampan(shop.root, *adopt, "--register-only").returncode == 0
    assert "signed by release" in sampan(shop.root, "model", "sign", "mine@1", "--key", str(pem)).stdout
    done = sampan(shop.root, "endpoint", "deploy", "mine", "--model", "mine@1")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_from_the_key_to_the_page_through_a_hub(make_shop: Callable[..., Shop], tmp_path: Path) -> None:
    """Off, then enforced: what is not signed is refused while what is in force serves; then it is signed and deployed,
    gone back from, and gone back to only as far as there are signatures."""
    shop = make_shop()
    second = shop.register(FITTED[0](9))
    third = shop.register(FITTED[0](12))
    shop.close()
    root, file = shop.root, tmp_path / "release.pem"

    def run(*arguments: str, code: int = 0) -> str:
        done = sampan(root, *arguments)
        assert done.returncode == code and "Traceback" not in done.stderr, (done.stdout, done.stderr)
        assert "PRIVATE" not in done.stdout + done.stderr
        return done.stdout + done.stderr

    line = run("model", "key", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and line.startswith('[signing]\nrelease = "')
    assert "there already" in run("model", "key", str(file), code=1)
    hub = Hub(root)
    try:
        assert "sampan.toml does not name" in run("model", "sign", "reorder@1", "--key", str(file))
        (root / "sampan.toml").write_text(f'[settings]\nrequire_signature = "enforce"\n\n{line}')
        assert run("model", "verify", "reorder@1") == "reorder@1: signed by release.\n"
        refused = run("endpoint", "deploy", "reorder", "--model", second.ref, "--reason", "new", code=1)
        assert "reorder@2" in refused and "nobody has signed it" in refused and "sampan model sign reorder@2" in refused
        (root / "rollouts.toml").write_text(PLAN)
        started = run("rollout", "start", "reorder", "--model", second.ref, "--reason", "new", code=1)
        assert "nobody has signed it" in started and "Traceback" not in started
        (root / "rollouts.toml").unlink()
        assert json.loads(hub.predict("reorder", BODY)[1])["predictions"][0]["version"] == "reorder@1"
        assert "is signed by release" in run("model", "sign", second.ref, "--key", str(file), "--reason", "looked at")
        run("endpoint", "deploy", "reorder", "--model", second.ref, "--reason", "new")
        assert json.loads(hub.predict("reorder", BODY)[1])["predictions"][0]["version"] == "reorder@2"
        assert "signature   signed by release" in run("endpoint", "show", "reorder")
        shown = json.loads(run("model", "show", second.ref, "--json"))["signing"]
        assert (shown["valid"], shown["by"], shown["signatures"][0]["reason"]) == (True, ["release"], "looked at")
        page = hub.ask("GET", "/models/reorder/2", accept="text/html")[1].decode()
        assert "Who vouches for it" in page and "release" in page
        history = hub.json("/models/reorder")["history"]
        assert any(one["what"].startswith("signed with the key") and one["ref"] == second.ref for one in history)
        assert "nobody has signed it" in run("model", "verify", third.ref, code=1)
        with sqlite3.connect(root / ".sampan" / "records.db") as records:  # as somebody with the file might
            records.execute("DELETE FROM model_signatures WHERE number = 1")
        assert "nobody has signed it" in run("rollback", "reorder", "--reason", "back", code=1)
        assert json.loads(hub.predict("reorder", BODY)[1])["predictions"][0]["version"] == "reorder@2"
        response, said = hub.ask("POST", "/v1/signatures", b'{"ref": "reorder@3", "key": "x", "signature": "y"}')
        assert response.status == 400 and b"no key's id" in said
    finally:
        assert hub.stop() == 0
