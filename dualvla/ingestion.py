"""From an offered shard to training data, or to quarantine.

One shard at a time: downloaded, known by the sum of its content, checked by the gate that the
merged data set must pass too, copied under its sum, and only then written into the index. Each step
may be repeated, so a kill at any moment costs at most one shard's work. A shard that cannot be read
is the sender's fault and never ours: its reason is reported and the next one's turn comes. A full
disk or a bucket that does not answer is not the shard's fault and is an error.
"""

import errno
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dualvla import files, paths, redaction
from dualvla.config import Params
from dualvla.data import incoming, lerobot
from dualvla.errors import UserError
from dualvla.store import shards
from dualvla.store.client import Place
from dualvla.store.shards import Index, Offer

SUITE = "demonstrations"
EXAMINED = "examined"  # the shard under examination, in the cache
SPARE_GIB = 0.5

Report = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What became of an offered shard."""

    key: str
    sha256: str
    verdict: Literal["ingested", "quarantined", "known"]
    remark: str  # reasons, or where the same content lies


def waiting(index: Index, offered: list[Offer], *, again: bool = False) -> list[Offer]:
    """Offers that are new or have changed since they were seen.

    Args:
        index: what was seen.
        offered: what the bucket lists.
        again: quarantined ones too, after an expectation was mended.
    """

    def settled(offer: Offer) -> bool:
        seen = index["seen"].get(offer.key)
        refused = seen is not None and seen["sha256"] in index["quarantined"]
        return seen is not None and seen["listing"] == offer.listing and not (again and refused)

    return [offer for offer in offered if not settled(offer)]


def gate_params(params: Params) -> Params:
    """Parameters of the gate on a shard: those of a run whose demonstrations are shards."""
    settings = params.demonstrations.model_copy(update={"source": "incoming"})
    return params.model_copy(update={"demonstrations": settings})


def ingest(
    where: Place, offer: Offer, params: Params, cache: Path, *, again: bool = False
) -> Outcome:
    """Download, check and record one shard.

    Args:
        where: the bucket.
        offer: the shard.
        params: of the profile that will train on it.
        cache: folder for what is downloaded; one process at a time may use it.
        again: check content that was refused before once more.

    Raises:
        UserError: the disk is too small, or the bucket answers otherwise than expected.
    """
    folder = cache / EXAMINED
    shutil.rmtree(folder, ignore_errors=True)
    files.require_space(cache, offer.bytes / 2**30 + SPARE_GIB)
    folder.mkdir(parents=True)
    try:
        try:
            shards.bring(where, offer, folder)
        except UserError as error:  # without its files, its listing tells it apart
            return _refuse(where, offer, offer.listing, [str(error)], None)
        sha256 = files.sha256(folder)
        known = _known(shards.read_index(where), sha256, again=again)
        if known is not None:
            _see(where, offer, sha256)
            return Outcome(offer.key, sha256, "known", known)
        reasons, report = examine(folder, params, offer.key)
        if not reasons:
            about = _about(offer, folder)
            shards.keep(where, sha256, folder, about)
            _see(where, offer, sha256, lambda index: _accept(index, sha256, about))
            return Outcome(offer.key, sha256, "ingested", f"{about['episodes']} episodes")
        return _refuse(where, offer, sha256, reasons, report)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def take_up(where: Place, folder: Path) -> int:
    """List all ingested shards in a workspace, for its next run; return how many there are."""
    listed = incoming.manifest(shards.ingested(shards.read_index(where)))
    files.write_json(folder / paths.INCOMING, listed)
    return len(listed["shards"])


def examine(folder: Path, params: Params, subject: str) -> tuple[list[str], Report | None]:
    """Reasons to refuse a shard, none if it may be trained on, and the gate's report.

    The report is None if the shard could not be read far enough for the gate.
    """
    from dualvla.quality import demonstrations, run

    reasons: list[str] = []
    try:
        redaction.require_clean(path for path in folder.rglob("*") if path.is_file())
        lerobot.open_dataset(folder)
    except Exception as error:
        reasons = [_blame(error, folder)]
    try:
        chosen = gate_params(params)
        report = run.evaluate(demonstrations.checks(chosen), demonstrations.tables(folder, chosen))
    except Exception as error:
        return reasons or [_blame(error, folder)], None
    report |= {"suite": SUITE, "subject": subject}
    if not report["success"]:
        reasons.append(run.summary(report))
    return reasons, report


def _blame(error: Exception, folder: Path) -> str:
    """What is wrong with a shard, in one line without this machine's paths.

    Foreign bytes make readers fail in any way; what cannot be their fault is raised again: a full
    disk, and a broken suite, which is a plain RuntimeError.
    """
    ours = type(error) in (RuntimeError, MemoryError) or isinstance(error, ImportError)
    if ours or (isinstance(error, OSError) and error.errno not in (None, errno.ENOENT)):
        raise error
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    lines = text.replace(f"{folder}/", "").replace(str(folder), "shard").splitlines()
    return lines[0] if lines else type(error).__name__


def _about(offer: Offer, folder: Path) -> dict[str, Any]:
    dataset = lerobot.open_dataset(folder)
    return {"shard": offer.key, "episodes": len(dataset.episodes), "frames": dataset.length}


def _known(index: Index, sha256: str, *, again: bool) -> str | None:
    """Where content lies that was ingested or refused before; None if it is new."""
    if sha256 in index["ingested"]:
        return f"the same as {index['ingested'][sha256]['shard']}"
    if sha256 in index["quarantined"] and not again:
        return f"refused before, as {index['quarantined'][sha256]['shard']}"
    return None


def _refuse(
    where: Place, offer: Offer, sha256: str, reasons: list[str], report: Report | None
) -> Outcome:
    from dualvla.quality import page

    told = {"schema": 1, "shard": offer.key, "sha256": sha256, "reasons": reasons, "gate": report}
    html = page.render(report) if report else _page(offer, reasons)
    prefix = shards.quarantine(where, offer, sha256, told, html)
    entry = {"shard": offer.key, "reasons": reasons, "report": f"{prefix}/report.html"}
    _see(where, offer, sha256, lambda index: index["quarantined"].update({sha256: entry}))
    return Outcome(offer.key, sha256, "quarantined", "; ".join(reasons))


def _page(offer: Offer, reasons: list[str]) -> str:
    import html

    items = "".join(f"<li>{html.escape(reason)}</li>" for reason in reasons)
    title = html.escape(offer.key)
    return (
        f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1>"
        f"<p>The shard could not be read, so no expectation was checked.</p><ul>{items}</ul>\n"
    )


def _accept(index: Index, sha256: str, about: dict[str, Any]) -> None:
    index["quarantined"].pop(sha256, None)
    index["ingested"].setdefault(sha256, about)


def _see(
    where: Place,
    offer: Offer,
    sha256: str,
    change: Callable[[Index], None] = lambda _: None,
) -> None:
    def both(index: Index) -> None:
        index["seen"][offer.key] = {"listing": offer.listing, "sha256": sha256}
        change(index)

    shards.record(where, both)
