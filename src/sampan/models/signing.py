"""Signatures of versions: with an Ed25519 key, somebody vouches for a content under a name and a number.

The private key stays with who signs. Which public keys count is said in the operator's sampan.toml, under [signing],
and nowhere else; what is kept with a version, by whoever, is a claim until one of those keys bears it out.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from sampan.base.errors import BadSetting, Refused, Usage
from sampan.base.settings import Folder
from sampan.models.version import Version, VersionDraft, version_digest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: What the setting ``require_signature`` may say.
OFF: Final = "off"
WARN: Final = "warn"
ENFORCE: Final = "enforce"
_MODES: Final = (OFF, WARN, ENFORCE)
_STATEMENT: Final = "sampan-model-signature-1"
_RAW: Final = 32  # bytes of a public key
_SIGNATURE: Final = 64
_ID: Final = re.compile(r"[0-9a-f]{16}\Z")
_PEM: Final = re.compile(r"-----[A-Z ]+-----")
_HOW: Final = "Write the public key as `sampan model key` prints it, or as PEM."


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """One signature as it was written down. ``key``: the id of the public key that it names; ``signature``: base64;
    ``onnx``: the digest of the ONNX form that it covers, if any. ``at`` in microseconds."""

    id: str
    model: str
    number: int
    key: str
    signature: str
    onnx: str = ""
    actor: str = ""
    reason: str = ""
    at: int = 0


class Key(NamedTuple):
    """A public key that the operator trusts."""

    id: str
    name: str
    raw: bytes


class Standing(NamedTuple):
    """Whether a trusted key bears a version out, whose, and how that is said."""

    valid: bool
    by: tuple[str, ...]
    said: str


def statement(model: str, number: int, digest: str, onnx: str = "") -> bytes:
    """What is signed: that this content has this name and number; the digest of its ONNX form with it."""
    return msgspec.json.encode((_STATEMENT, model, number, digest, onnx))


def content_of(version: Version | VersionDraft) -> str:
    """The digest of what a version's record says that it is, made anew."""
    return version_digest(version.kind, version.format, version.files, version.signature)


def key_id(raw: bytes) -> str:
    """The short name of a public key."""
    return sha256(raw).hexdigest()[:16]


class Trust(NamedTuple):
    """What the workspace's settings ask of versions, and the public keys that count, by id."""

    mode: str
    keys: Mapping[str, Key]

    def holds(self, one: Signed, model: str, number: int, digest: str) -> bool:
        """Whether a signature is one of a trusted key for this very content, name and number."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        if (key := self.keys.get(one.key)) is None:
            return False
        said = statement(model, number, digest, one.onnx)
        try:
            Ed25519PublicKey.from_public_bytes(key.raw).verify(b64decode(one.signature, validate=True), said)
        except (InvalidSignature, NotBase64, ValueError):
            return False
        return True

    def standing(self, ref: str, version: Version | VersionDraft, signed: Sequence[Signed]) -> Standing:
        """How a version, or what a bundle carries of it, stands under ``MODEL@NUMBER``."""
        model, _, number = ref.rpartition("@")
        digest = content_of(version)
        if digest != version.digest:
            return Standing(False, (), f"its record was changed: it comes to {digest[:12]}, not {version.digest[:12]}")
        if not signed:
            return Standing(False, (), "nobody has signed it")
        held = [one for one in signed if self.holds(one, model, int(number), digest)]
        form = version.onnx.digest if version.onnx is not None else ""
        good = [one for one in held if not form or one.onnx == form]
        if good:
            names = tuple(dict.fromkeys(self.keys[one.key].name for one in good))
            return Standing(True, names, f"signed by {', '.join(names)}")
        if held:
            return Standing(False, (), "its ONNX form is not the one that was signed")
        if known := next((self.keys[one.key] for one in signed if one.key in self.keys), None):
            return Standing(False, (), f"the signature by {known.name} is not one of this content, name and number")
        return Standing(False, (), f"it is signed by the key {signed[0].key}, which [signing] does not name")

    def demand(self, ref: str, version: Version | VersionDraft, signed: Sequence[Signed]) -> None:
        """Raises Refused for a version that must not serve."""
        if self.mode != ENFORCE:
            return
        found = self.standing(ref, version, signed)
        if not found.valid:
            advice = f"Sign it with a key that sampan.toml names: `sampan model sign {ref} --key FILE`."
            raise Refused(f"Serve {ref}", f"{found.said}, and require_signature is {ENFORCE}", advice)


def read_trust(folder: Folder) -> Trust:
    """What sampan.toml says now. Raises BadSetting."""
    config = folder.config()
    mode = folder.settings().get("require_signature").lower()
    if mode not in _MODES:
        raise BadSetting("Read require_signature", f"{mode!r} is none of {', '.join(_MODES)}", "Write one of them.")
    named = config.get("signing", {})
    if not isinstance(named, dict):
        raise BadSetting(
            "Read [signing] in sampan.toml", "it is no table", 'Write NAME = "PUBLIC KEY" below [signing].'
        )
    keys: dict[str, Key] = {}
    for name, text in named.items():
        raw = _public(f"Read the key {str(name)[:60]!r} of [signing] in sampan.toml", text)
        keys.setdefault(key_id(raw), Key(key_id(raw), name, raw))
    return Trust(mode, keys)


def _public(attempted: str, text: Any) -> bytes:
    """The 32 bytes of a public key. Raises BadSetting."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    if not isinstance(text, str):
        raise BadSetting(attempted, f"{str(text)[:40]!r} is no text", _HOW)
    if "PRIVATE" in text:
        raise BadSetting(attempted, "it is a private key", "Take it out, make another pair, and name its public key.")
    try:
        data = b64decode("".join(_PEM.sub("", text).split()), validate=True)
        if len(data) == _RAW:
            return data
        found = load_der_public_key(data)
    except (NotBase64, ValueError, UnsupportedAlgorithm):
        raise BadSetting(attempted, f"{text.strip()[:40]!r} is no public key", _HOW) from None
    if not isinstance(found, Ed25519PublicKey):
        raise BadSetting(attempted, "it is a key of another kind than Ed25519", _HOW)
    return found.public_bytes_raw()


# -- on the machine of who signs


def new_key() -> tuple[bytes, str]:
    """A new private key as PEM, and its public key as [signing] takes it."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    made = Ed25519PrivateKey.generate()
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), public_line(made)


def public_line(key: "Ed25519PrivateKey") -> str:
    """The public key of a private one, as [signing] takes it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    data = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b64encode(data).decode()


def open_key(attempted: str, pem: bytes, passphrase: str = "") -> "Ed25519PrivateKey | None":
    """A private key from its file; None where that wants a passphrase. Raises Usage; nothing of the key is told."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    advice = "`sampan model key FILE` makes one, or `openssl genpkey -algorithm ed25519 -out FILE`."
    try:
        found = load_pem_private_key(pem, passphrase.encode() or None)
    except TypeError:
        if not passphrase:
            return None
        raise Usage(attempted, "the key has no passphrase, and one was given", "Leave it out.") from None
    except (ValueError, UnsupportedAlgorithm):
        wrong = "the passphrase does not open the key" if passphrase else "the file holds no private key in PEM"
        raise Usage(attempted, wrong, advice) from None
    if not isinstance(found, Ed25519PrivateKey):
        raise Usage(attempted, "the key is of another kind than Ed25519", advice)
    return found


def sign(key: "Ed25519PrivateKey", model: str, number: int, digest: str, onnx: str = "") -> tuple[str, str]:
    """The id of a key, and its signature of a version in base64."""
    made = key.sign(statement(model, number, digest, onnx))
    return key_id(key.public_key().public_bytes_raw()), b64encode(made).decode()


def check_form(attempted: str, key: str, signature: str) -> None:
    """Raises Usage for what can be no signature, whoever's."""
    if not _ID.match(key):
        raise Usage(attempted, f"{key[:40]!r} is no key's id", "`sampan model sign` makes it.")
    try:
        size = len(b64decode(signature, validate=True))
    except (NotBase64, ValueError):
        size = 0
    if size != _SIGNATURE:
        raise Usage(attempted, "the signature is no Ed25519 signature in base64", "`sampan model sign` makes it.")
