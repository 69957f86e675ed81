"""Records of who signed a version, with which key, when and why. Rows are added and never changed."""

from typing import Final, TypeAlias

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import Refused, Usage
from sampan.base.ids import new_id
from sampan.models.signing import Signed, Trust, check_form, content_of
from sampan.models.version import Version
from sampan.store.database import Database

_REASON: Final = 2_000
_EVER: Final = 1 << 62
_COLUMNS: Final = ", ".join(Signed.__struct_fields__)


class SignatureRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A signature that was made elsewhere, to be kept with a version; see ``Signed``."""

    ref: str
    key: str
    signature: str
    onnx: str = ""
    reason: str = ""


class KeptSignature(Signed, frozen=True, kw_only=True):
    """A signature as it is kept, with the ``name`` of its key; empty where sampan.toml names none."""

    name: str = ""


SignedList: TypeAlias = list[Signed]


class Signatures:
    """The signatures of a workspace's versions. Writing needs the records' lock; reading does not."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock

    def add(self, version: Version, asked: SignatureRequest, trust: Trust, *, actor: str) -> Signed:
        """Keep a signature; one that is kept already stays as it is. Raises Usage, and Refused for one by a trusted key
        that does not hold."""
        attempted = f"Keep a signature of {version.ref}"
        check_form(attempted, asked.key, asked.signature)
        if len(asked.reason) > _REASON:
            raise Usage(
                attempted, f"the reason has {len(asked.reason):,} characters", f"It may have up to {_REASON:,}."
            )
        form = version.onnx.digest if version.onnx is not None else ""
        if asked.onnx != form:
            said = f"it covers the ONNX form {asked.onnx[:12] or 'none'}, and the version has {form[:12] or 'none'}"
            raise Refused(attempted, said, "Sign it again.")
        for one in self.list(version.model, version.number):
            if (one.key, one.signature, one.onnx) == (asked.key, asked.signature, asked.onnx):
                return one
        made = Signed(
            id=new_id(self._clock),
            model=version.model,
            number=version.number,
            key=asked.key,
            signature=asked.signature,
            onnx=asked.onnx,
            actor=actor,
            reason=asked.reason.strip(),
            at=self._clock.micros(),
        )
        if made.key in trust.keys and not trust.holds(made, version.model, version.number, content_of(version)):
            said = f"the signature by {trust.keys[made.key].name} is not one of this content, name and number"
            raise Refused(attempted, said, f"Sign it again: `sampan model sign {version.ref} --key FILE`.")
        row = msgspec.structs.astuple(made)
        with self._db.transaction() as records:
            records.execute(
                f"INSERT INTO model_signatures ({_COLUMNS}) VALUES ({', '.join('?' * len(row))})",
                row,
            )
        return made

    def list(self, model: str, number: int, by: int | None = None) -> SignedList:
        """The signatures of a version, the newest first; ``by``: those that there were at that instant."""
        return [one for one in self.of_model(model, by) if one.number == number]

    def of_model(self, model: str, by: int | None = None) -> SignedList:
        """Those of all versions of a model, the newest first."""
        rows = self._db.rows(
            f"SELECT {_COLUMNS} FROM model_signatures WHERE model = ? AND at <= ? ORDER BY at DESC, rowid DESC",
            (model, _EVER if by is None else by),
        )
        return [Signed(**dict(row)) for row in rows]
