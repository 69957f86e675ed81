"""Files of a version are looked at before it is loaded; of what is refused there is a record and an alert."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from sampan.app.workplace import Workplace
from sampan.base.errors import Damaged, NotFound, SampanError

if TYPE_CHECKING:
    from sampan.models.damages import Damage

Named: TypeAlias = tuple[str, Mapping[str, str]]
"""A version, and its files: digests by name."""
_ADVICE = "Restore {} from a backup, then try again; what is in force goes on."


class Checking(Workplace):
    """Refuses versions with damaged files."""

    @contextmanager
    def _whole(self, attempted: str, actor: str, named: "Callable[[], Named]", first: bool = True) -> Iterator[None]:
        """Raises Damaged, and keeps a record of it, where a file is not as it was kept; looks again when what is done
        within fails. ``first``: before that, too."""
        if first:
            self._check(attempted, actor, *named())
        try:
            yield
        except (Damaged, NotFound):
            self._check(attempted, actor, *named())
            raise

    def _check(self, attempted: str, actor: str, version: str, files: Mapping[str, str]) -> None:
        from sampan.models.damages import faults

        found = faults(self.blobs, files)
        if not found:
            return
        with suppress(SampanError):  # it is refused all the same
            self._keep_damage(version, found, attempted, actor)
        file, (_, says) = next(iter(found.items()))
        more = f"; so are {', '.join(list(found)[1:])}" if len(found) > 1 else ""
        advice = _ADVICE.format(says.partition(" ")[0])
        raise Damaged(attempted, f"{file} of {version} is damaged: {says}{more}", advice)

    def _from_memory(self, attempted: str, actor: str, version: str, files: Mapping[str, str]) -> str:
        """What is to be said of damage of a version that serves all the same, from memory; there is a record of it.
        Empty where nothing is."""
        try:
            self._check(attempted, actor, version, files)
        except Damaged as error:
            return f"{error.obstacle}; it answers from memory, and not after its process has started anew"
        return ""

    def _keep_damage(self, version: str, found: Mapping[str, tuple[str, str]], attempted: str, actor: str) -> None:
        from sampan.models.damages import Damages

        with self._as_writer(attempted):
            Damages(self.db).add(version, found, attempted, actor, self.clock)

    def keep_damage(self, version: str, files: dict[str, str], attempted: str, actor: str) -> Any:
        """Write down that something was refused for damage of a version, as far as it is damaged; gives what is wrong.
        Raises NotFound for a version that there is not."""
        from sampan.models.damages import Damages, faults

        with self._as_writer("Keep what was refused"):
            known = self.models.get(version)
            ref, held = known.ref, known.draft().held()
            found = faults(self.blobs, {name: one for name, one in files.items() if one in held or self.blobs.has(one)})
            Damages(self.db).add(ref, found, attempted[:300], actor, self.clock)
            return {"version": ref, "damaged": {name: says for name, (_, says) in found.items()}}

    def damages(self, seen: dict[str, tuple[Any, str]]) -> "list[Damage]":
        """What was refused and is still damaged; what is whole again is noted. ``seen``: what was found at the last
        look, so that a file that nobody has touched is not read again."""
        from sampan.models.damages import Damages

        records = Damages(self.db)
        found = []
        for one in records.open():
            if not self._fault(one.digest, seen) or not self._needed(one):
                records.over(one, self.clock)
                seen.pop(one.digest, None)
            else:
                found.append(one)
        return found

    def _fault(self, digest: str, seen: dict[str, tuple[Any, str]]) -> str:
        """What is wrong with a file; it is read only if somebody has touched it since it was ``seen``."""
        state = self.blobs.state(digest)
        if state is None or seen.get(digest, (None, ""))[0] != state:
            seen[digest] = (state, self.blobs.fault(digest))
        return seen[digest][1]

    def _needed(self, one: "Damage") -> bool:
        """Whether a damaged file is still a version's, or lies there at least."""
        try:
            held = self.models.get(one.version).draft().held()
        except NotFound:
            return False
        return one.digest in held or self.blobs.has(one.digest)

    # -- which files

    def _files_of(self, ref: str) -> Named:
        """Files of a version, and of what would be bundled with it now."""
        version = self.models.get(ref)
        kept = self.endpoints.beside(version, self.folder.root)
        return version.ref, {**named(version), **{name: one for name, one in kept.items() if self.blobs.has(one)}}

    def _files_in(self, digest: str) -> Named:
        """Files of a bundle."""
        if self.blobs.fault(digest):
            row = self.db.row("SELECT version FROM bundles WHERE bundle = ? LIMIT 1", (digest,))
            return (row["version"] if row is not None else "a version"), {"bundle": digest}
        bundle = self.endpoints.bundle(digest)
        files = {**bundle.model.files, **bundle.sources}
        with suppress(NotFound):
            files = {**named(self.models.get(bundle.version)), **bundle.sources}
        if bundle.environment:
            files["lock"] = bundle.environment
        return bundle.version, {"bundle": digest, **files}


def named(version: Any) -> dict[str, str]:
    """The files that are kept with a version, by name."""
    files = dict(version.files)
    if version.golden is not None:
        files["golden file"] = version.golden.digest
    if version.onnx is not None and version.onnx.digest:
        files["ONNX form"] = version.onnx.digest
    return files
