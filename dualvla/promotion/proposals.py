"""Proposing a candidate for production, and carrying the decision out.

The decision is plain data, the same for the same two versions. It is stored beside the versions
before the alias moves; the alias's history names it. Where production stood when the decision was
made is part of a proposal: if another promotion was faster, this one does not move the alias.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dualvla import files
from dualvla.config import Promotion
from dualvla.errors import UserError
from dualvla.promotion import evidence, page
from dualvla.promotion.decision import Row, decide
from dualvla.promotion.evidence import Evidence
from dualvla.store import aliases, client, registry, versions
from dualvla.store.aliases import Alias
from dualvla.store.client import Place

DECISIONS = Path(".dualvla/decisions")  # local copies, by model


@dataclass(frozen=True, eq=False)
class Proposal:
    """A decision, and where production was when it was made."""

    decision: Row
    production: Alias


def propose(where: Place, model: str, wanted: str, settings: Promotion) -> Proposal:
    """Decide whether a version may become production; nothing is written.

    Args:
        where: the bucket.
        model: whose alias.
        wanted: the candidate: a version, its beginning or an alias.
        settings: margins and rules.

    Raises:
        UserError: no such version, it is production already, or the two were not measured alike.
    """
    production = aliases.read(where, model, "production")
    version = registry.resolve(where, model, wanted)
    if version == production.version:
        raise UserError(f"{version} is production already", where=f"{registry.ROOT}/{model}")
    candidate = evidence.published(where, model, version)
    incumbent = _incumbent(where, model, production.version, candidate)
    return Proposal(decide(model, candidate, incumbent, settings), production)


def carry_out(
    where: Place,
    proposal: Proposal,
    root: Path,
    *,
    who: str | None = None,
    approval: Row | None = None,
) -> Alias | None:
    """Store a decision, and move `production` if it was accepted; None if it was refused.

    Args:
        where: the bucket.
        proposal: from `propose`.
        root: the project's folder, which gets a copy.
        who: decides; the user's login if not given.
        approval: a person's: `approved`, `who`, `why`; None where nobody was asked.

    Raises:
        MovedError: another promotion was faster; the decision is stored, the alias not moved.
    """
    decision, who = proposal.decision, who or aliases.person()
    accepted = decision["accepted"] and (approval is None or approval["approved"])
    now = datetime.now(UTC)
    record = decision | {
        "who": who,
        "when": now.isoformat(timespec="seconds"),
        "approval": approval,
        "promote": accepted,
    }
    model, version = decision["model"], decision["candidate"]
    name = f"{model}/decisions/{now:%Y%m%dT%H%M%S.%fZ}-{version}"
    text, s3 = page.markdown(record), client.connect(where)
    local = root / DECISIONS / model / Path(name).name
    files.write_json(local.with_name(f"{local.name}.json"), record)
    files.write_text(local.with_name(f"{local.name}.md"), text)
    key = f"{registry.ROOT}/{name}"
    versions.put_json(s3, where, f"{key}.json", record)
    s3.put_object(
        Bucket=where.bucket,
        Key=f"{key}.md",
        Body=text.encode(),
        ContentType="text/markdown",
        **where.options,
    )
    if not accepted:
        return None
    return aliases.move(
        where, proposal.production, version, action="promote", who=who, why=f"{key}.json"
    )


def _incumbent(
    where: Place, model: str, version: str | None, candidate: Evidence
) -> Evidence | None:
    """Production's results: if measured under another protocol, those of a version of its weights.

    Without this no change of protocol could ever be promoted.
    """
    if version is None:
        return None
    found = evidence.published(where, model, version)
    if evidence.unlike(candidate, found) is None:
        return found
    weights = registry.fingerprint(versions.require(where, f"{registry.ROOT}/{model}/{version}"))
    for one in reversed(registry.listing(where, model)):
        if registry.fingerprint(one.manifest) == weights:
            other = evidence.published(where, model, one.name)
            if evidence.unlike(candidate, other) is None:
                return other
    return found
