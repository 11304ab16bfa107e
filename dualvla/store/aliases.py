"""Names that move: `candidate` and `production` of a model.

An alias is one small object that also holds its own history, so that a version and who moved it
there change in one write. It is moved by compare-and-swap on the object's ETag: of racing moves one
wins and the others hear of it. A second object for the history would be easier to read in a
bucket's listing, but could be left behind by a kill.
"""

import getpass
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dualvla.errors import UserError
from dualvla.store import client, versions
from dualvla.store.client import Place

NAMES = ("candidate", "production")
SCHEMA = 1


class MovedError(UserError):
    """Another process moved the alias first; nothing was changed."""

    exit_code = 1


@dataclass(frozen=True)
class Alias:
    """Where a name points, and how it came there."""

    model: str
    name: str
    version: str | None  # None: it was never set
    history: tuple[Mapping[str, Any], ...]  # of moves, oldest first: who, when, from, to, action
    etag: str | None

    @property
    def before(self) -> str | None:
        """The version that a rollback returns to; None if there is none.

        A rollback takes the last promotion back, so that two of them go back two versions.
        """
        stack: list[str] = []
        for move in self.history:
            if move["action"] == "rollback" and move["to"] in stack:
                while stack[-1] != move["to"]:
                    stack.pop()
            else:
                stack.append(move["to"])
        return stack[-2] if len(stack) > 1 else None


def key(model: str, name: str) -> str:
    """Key of an alias's object; access rules name it."""
    return f"registry/{model}/aliases/{name}.json"


def read(where: Place, model: str, name: str) -> Alias:
    """Where an alias points now."""
    _require_known(name)
    found = versions.get_json(client.connect(where), where, key(model, name))
    if found is None:
        return Alias(model, name, None, (), None)
    data, answer = found
    return Alias(model, name, data["version"], tuple(data["history"]), answer["ETag"])


def move(
    where: Place,
    seen: Alias,
    version: str,
    *,
    action: str = "move",
    who: str | None = None,
    why: str | None = None,
) -> Alias:
    """Point an alias at a version, if it still is where it was seen.

    Args:
        where: the bucket.
        seen: the alias as read before the decision to move it.
        version: the version's name; must have been published.
        action: move, promote or rollback.
        who: moves it; the user's login if not given.
        why: kept in the history: a decision's key, a person's words.

    Raises:
        MovedError: another process moved it since.
        UserError: no such version.
    """
    versions.require(where, f"registry/{seen.model}/{version}")
    entry = {
        "id": uuid.uuid4().hex,  # tells a repeated request of ours from another's
        "action": action,
        "from": seen.version,
        "to": version,
        "who": who or person(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "why": why,
    }
    data = {
        "schema": SCHEMA,
        "alias": seen.name,
        "version": version,
        "history": [*seen.history, entry],
    }
    condition = {"IfMatch": seen.etag} if seen.etag else {"IfNoneMatch": "*"}
    s3 = client.connect(where)
    if not versions.put_json(s3, where, key(seen.model, seen.name), data, **condition):
        now = read(where, seen.model, seen.name)
        last = now.history[-1] if now.history else {"who": "somebody", "when": "meanwhile"}
        what = f"{seen.name} was moved to {now.version} by {last['who']} at {last['when']}"
        fix = "nothing was changed; look at it and decide anew"
        raise MovedError(what, where=f"registry/{seen.model}", fix=fix)
    return read(where, seen.model, seen.name)


def rollback(
    where: Place, model: str, *, to: str | None = None, who: str | None = None, why: str = ""
) -> Alias:
    """Return `production` to the version before the last promotion, or to one it had before.

    Raises:
        UserError: there is no earlier version, or `to` never was production.
        MovedError: another process moved it at the same time.
    """
    now = read(where, model, "production")
    known = {entry["to"] for entry in now.history} - {now.version}
    target = to or now.before
    if target is None or target not in known:
        what = "no earlier version to return to" if to is None else f"{to} never was production"
        fix = f"one of {', '.join(sorted(known))}" if known else "promote a version first"
        raise UserError(what, where=f"registry/{model}", fix=fix)
    return move(where, now, target, action="rollback", who=who, why=why or None)


def person() -> str:
    """Who acts, for histories: the login name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def _require_known(name: str) -> None:
    if name not in NAMES:
        raise UserError(f"no alias {name}", fix=f"one of {', '.join(NAMES)}")
