"""``policy.toml``: who may have which alias name a version, and on what evidence.

```toml
[groups]
risk = ["bea", "carl"]        # names of tokens, or of people on this machine

[[promotion]]
alias = "champion"
models = ["reorder", "churn*"]
approvals = 2
from = { risk = 1 }
evidence = ["tests", "replay"]
```

Every ``[[promotion]]`` that fits a model and an alias counts; what they ask for is added up to the strictest. An alias
that none of them names is moved by whoever may deploy. The alias ``thresholds`` stands for proposals of others
(``sampan.release.proposals``).
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from sampan.base.digests import digest_bytes
from sampan.base.errors import BadSetting
from sampan.models.aliases import check_alias

FILE: Final = "policy.toml"
#: The alias under which the policy says who approves other thresholds; no version is named by it.
THRESHOLDS: Final = "thresholds"
Evidence: TypeAlias = Literal["tests", "golden", "replay", "rebuild"]
_DAYS: Final = re.compile(r"(\d{1,4}) ?days?")
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=100)]


class Demand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[promotion]]``. ``shadow``: days that a version must have seen the present without effect;
    ``author_counts``: whether an approval by whoever made the version counts; ``back``: whether a version that the
    alias has named before may be gone back to without being approved anew."""

    alias: str
    models: tuple[str, ...] = ("*",)
    approvals: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    groups: dict[str, _Count] = msgspec.field(name="from", default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    shadow: str = ""
    author_counts: bool = True
    back: bool = True

    @property
    def days(self) -> int:
        """Of shadow."""
        found = _DAYS.fullmatch(self.shadow)
        return int(found[1]) if found else 0


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. ``digest`` is that of its bytes, empty where there is none."""

    groups: dict[str, tuple[str, ...]] = {}
    promotion: tuple[Demand, ...] = ()
    digest: str = ""

    def demanded(self, model: str, alias: str) -> Demand | None:
        """What all rules that fit ask for together; None where none fits."""
        fitting = [
            one
            for one in self.promotion
            if one.alias == alias and any(fnmatchcase(model, pattern) for pattern in one.models)
        ]
        if not fitting:
            return None
        groups: dict[str, int] = {}
        for one in fitting:
            for name, count in one.groups.items():
                groups[name] = max(count, groups.get(name, 0))
        return Demand(
            alias=alias,
            models=(model,),
            approvals=max(one.approvals for one in fitting),
            groups=groups,
            evidence=tuple(dict.fromkeys(kind for one in fitting for kind in one.evidence)),
            shadow=max(fitting, key=lambda one: one.days).shadow,
            author_counts=all(one.author_counts for one in fitting),
            back=all(one.back for one in fitting),
        )

    def guarded(self, model: str) -> tuple[str, ...]:
        """The aliases that are not moved without more ado."""
        named = {one.alias for one in self.promotion if self.demanded(model, one.alias)}
        return tuple(sorted(named - {THRESHOLDS}))

    def groups_of(self, person: str) -> tuple[str, ...]:
        """The groups that somebody belongs to."""
        return tuple(name for name, people in self.groups.items() if person in people)


def read_policy(root: Path) -> Policy:
    """The policy of a workspace; one that asks for nothing where there is no file. Raises BadSetting: a file that
    cannot be read never counts as none."""
    attempted = f"Read {FILE}"
    try:
        data = (root / FILE).read_bytes()
    except FileNotFoundError:
        return Policy()
    except OSError as error:
        raise BadSetting(attempted, f"it cannot be read: {error.strerror}") from None
    try:
        given = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(attempted, f"it is not TOML: {error}") from None
    if "digest" in given:
        raise BadSetting(attempted, "unknown name 'digest'", "Known: groups, promotion.")
    try:
        policy = msgspec.convert(given, Policy)
    except msgspec.ValidationError as error:
        raise BadSetting(attempted, str(error), f"A [[promotion]] may have: {', '.join(_known())}.") from None
    for place, one in enumerate(policy.promotion, start=1):
        for problem in _problems(one, policy.groups):
            raise BadSetting(attempted, f"[[promotion]] number {place}: {problem}")
        check_alias(attempted, one.alias)
    return msgspec.structs.replace(policy, digest=digest_bytes(data))


def _known() -> Iterator[str]:
    return (field.encode_name for field in msgspec.structs.fields(Demand))


def _problems(one: Demand, groups: Mapping[str, Any]) -> Iterator[str]:
    if not one.models:
        yield "models names none"
    for name, count in one.groups.items():
        if name not in groups:
            yield f"from names the group {name!r}; [groups] has {', '.join(groups) or 'none'}"
        elif count > len(set(groups[name])):
            yield f"from asks for {count} of {name}, which has {len(set(groups[name]))}"
    if one.shadow and not one.days:
        yield f'shadow is {one.shadow!r}; for instance "3 days"'
    if not (one.approvals or one.groups or one.evidence or one.shadow):
        yield "it asks for nothing: approvals, from, evidence or shadow"
