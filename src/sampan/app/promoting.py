"""What commands and the hub ask about promotion: aliases moved, as far as the policy lets them be, and approvals."""

from typing import Any

from sampan.app.testing import Testing
from sampan.base.errors import Refused


class Promoting(Testing):
    """Moves aliases, and keeps what people say of versions."""

    def move_alias(
        self, model: str, alias: str, version: str | None, reason: str, token: int | None, actor: str
    ) -> Any:
        """Have an alias name a version (by number, or another alias), or none; ``token``: see ``Aliases.move``."""
        import msgspec

        with self._as_writer(f"Move the alias {alias[:100]}"):
            self.models.find(model)
            number = None if version is None else self.models.get(f"{model}@{version}").number
            evidence = () if number is None else self._allowed(f"{model}@{number}", alias, reason, actor)
            moved = self.models.aliases.move(
                model, alias, number, actor=actor, reason=reason, token=token, evidence=evidence
            )
            return msgspec.to_builtins(moved)

    def _allowed(self, ref: str, alias: str, reason: str, actor: str) -> tuple[str, ...]:
        """What speaks for an alias naming a version. Raises Refused, and writes the attempt down, where the policy asks
        for more."""
        from sampan.release.promotion import promotion

        found = promotion(self, ref, alias)
        if found.missing:
            why = "; ".join(one.rstrip(".") for one in found.missing)
            model, _, number = ref.partition("@")
            self.models.aliases.refuse(model, alias, int(number), actor=actor, reason=reason, why=why)
            advice = f"`sampan promote {ref} --to {alias} --check` shows all that the policy asks for."
            raise Refused(f"Promote {ref} to {alias}", f"missing: {why}", advice)
        return found.evidence()

    def approve(self, ref: str, alias: str, verdict: str, reason: str, actor: str) -> Any:
        """Say yes or no to a version under an alias, or take it back; gives where the version stands then."""
        import msgspec

        from sampan.models.approvals import Approvals
        from sampan.release.promotion import promotion, seen

        with self._as_writer(f"Decide about {ref[:100]}"):
            version = self.models.get(ref)
            Approvals(self.db, self.clock).add(
                version.model,
                version.number,
                alias,
                verdict,
                actor=actor,
                reason=reason,
                seen=seen(self, version),
            )
            return msgspec.to_builtins(promotion(self, version.ref, alias))
