"""What people say of things, as commands and the hub write it: tags, notes and comments."""

from collections.abc import Mapping
from typing import Any

from sampan.app.workplace import Workplace


class Remarking(Workplace):
    """Tags, describes and takes comments on whatever has a page of its own."""

    def page_of(self, kind: str, name: str) -> str:
        """Where the page of an object is. Raises NotFound for a kind that is none."""
        from sampan.hub.remarks import kind_of

        return kind_of(kind).address(name)

    def label(
        self, kind: str, name: str, tags: Mapping[str, str | None], note: str | None, actor: str
    ) -> dict[str, Any]:
        """Set and remove (None) tags of an object, say what it is; gives all that is said of it then. Raises NotFound
        for a kind or an object that is none."""
        from sampan.hub.remarks import found

        with self._as_writer(f"Label {name[:100]}"):
            thing = found(self, kind, name)
            labels = self.models.labels
            with self.db.transaction():
                for key, value in tags.items():
                    labels.tag(thing, key, value, actor=actor)
                if note is not None:
                    labels.note(thing, note, actor=actor)
        said = labels.of(thing)
        notes = [one.value for one in said if one.kind == "note"]
        return {"tags": {one.key: one.value for one in said if one.kind == "tag"}, "note": "".join(notes)}

    def comment(self, kind: str, name: str, text: str, actor: str) -> Any:
        """Say something of an object. Raises NotFound as ``label`` does, Usage for a text that is empty or too long."""
        import msgspec

        from sampan.hub.remarks import found
        from sampan.team.comments import Comments

        with self._as_writer(f"Comment on {name[:100]}"):
            thing = found(self, kind, name)
            return msgspec.to_builtins(Comments(self.db, self.clock).add(thing, text, actor=actor))

    def withdraw(self, comment: str, actor: str) -> Any:
        """Put one's own comment out of sight."""
        import msgspec

        from sampan.team.comments import Comments

        with self._as_writer(f"Withdraw the comment {comment[:40]}"):
            return msgspec.to_builtins(Comments(self.db, self.clock).withdraw(comment, actor=actor))
