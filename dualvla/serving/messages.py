"""What server and client say to each other, as plain data: both directions of each message.

The keys are openpi's, so that a client or server that knows nothing of ours works with the other
side. Ours add the controller's pose, what a batch is, and whose episode a request belongs to: a
slot, the seed, and whether it begins. Without these one connection is one episode, begun anew when
the prompt changes, and the measured pose stands for the controller's, as in training data that do
not record one. docs/serving.md has the table.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import dualvla
from dualvla import conventions
from dualvla.conventions import ENVIRONMENT_STATE_NAMES, STATE_NAMES, Convention
from dualvla.errors import UserError
from dualvla.interface import Decision, FloatArray, ImageArray, Observation
from dualvla.serving import codec

PROJECT, PROTOCOL = "dualvla", 1
IMAGE = "observation/image"
STATE = "observation/state"
CONTROLLER = "observation/controller"
PRIVILEGED = "observation/environment_state"
PROMPT = "prompt"
PLAIN = (IMAGE, STATE, PROMPT)  # what an openpi client sends
KEYS = (*PLAIN, CONTROLLER, PRIVILEGED)
EPISODE, BATCH = "episode", "batch"
MAX_SLOTS = 256  # of a connection, and so of a batch
MAX_SIDE = 4096  # pixels of a picture
UNKNOWN = np.full(len(ENVIRONMENT_STATE_NAMES), np.nan, np.float32)


@dataclass(frozen=True)
class Facts:
    """What a server says of its policy before the first request."""

    policy: str  # its name, for people
    convention: Convention
    requires: tuple[str, ...] = PLAIN  # keys that every request has
    accepts: tuple[str, ...] = ()  # further keys that are read
    chunk: int | None = None  # actions the policy plans at a time
    action_horizon: int | None = None  # of them, those in an answer
    reason: str = "never"  # config.Reason: when it writes text
    seed: int = 0  # beside each episode's
    checkpoint: str = ""  # SHA-256 of its files, or its kind
    ours: bool = True  # whether it knows slots, seeds and batches


@dataclass(frozen=True)
class Episode:
    """Whose a request is. `begins` None: where the slot or its prompt is new."""

    slot: int = 0
    seed: int = 0
    begins: bool | None = None


@dataclass(frozen=True)
class Request:
    """One slot's observation."""

    episode: Episode
    observation: Observation


def write_facts(facts: Facts) -> dict[str, Any]:
    """The first message of a server."""
    return {
        "project": PROJECT,
        "version": dualvla.__version__,
        "protocol": PROTOCOL,
        "policy": facts.policy,
        "convention": facts.convention.to_json(),
        "requires": list(facts.requires),
        "accepts": list(facts.accepts),
        "chunk": facts.chunk,
        "action_horizon": facts.action_horizon,
        "reason": facts.reason,
        "seed": facts.seed,
        "checkpoint": facts.checkpoint,
        "max_slots": MAX_SLOTS,
    }


def read_facts(message: Any, where: str) -> Facts:
    """Read a server's first message; one that is not ours needs a `convention` alone.

    Raises:
        UserError: no convention or a malformed one, or another version of this protocol.
    """
    if not isinstance(message, dict) or not isinstance(message.get("convention"), dict):
        fix = "its metadata must hold `convention`, see docs/serving.md"
        raise UserError("the policy declares no action convention", where=where, fix=fix)
    convention = conventions.from_json(message["convention"], where)
    policy = str(message.get("policy", "unnamed"))
    if message.get("project") != PROJECT:
        return Facts(policy, convention, ours=False)
    if message.get("protocol") != PROTOCOL:
        what = f"speaks protocol {message.get('protocol')}, this is {PROTOCOL}"
        raise UserError(what, where=where, fix="use the same version on both sides")
    requires, accepts = message.get("requires"), message.get("accepts")
    if not isinstance(requires, list) or not isinstance(accepts, list):
        raise UserError("does not say what it observes", where=where, fix="see docs/serving.md")
    if unknown := [key for key in requires + accepts if key not in KEYS]:
        fix = "use the same version on both sides"
        raise UserError(f"asks for unknown observations: {unknown}", where=where, fix=fix)
    names = ("chunk", "action_horizon", "reason", "seed", "checkpoint")
    known = {name: message[name] for name in names if name in message}
    return Facts(policy, convention, tuple(requires), tuple(accepts), **known)


def fingerprint(message: Any) -> str:
    """SHA-256 of all that a server says of itself in its first message."""
    return hashlib.sha256(codec.encode(message)).hexdigest()


def write_request(observation: Observation, facts: Facts, episode: Episode) -> dict[str, Any]:
    """An observation as a request: what the server reads, and nothing else.

    A policy that does not ask for it never gets the privileged state.
    """
    shown = {
        IMAGE: observation.image,
        STATE: observation.state,
        CONTROLLER: observation.controller,
        PRIVILEGED: observation.environment_state,
        PROMPT: observation.instruction,
    }
    sent = {key: shown[key] for key in (*facts.requires, *facts.accepts) if shown[key] is not None}
    if not facts.ours:
        return sent
    whose = {"slot": episode.slot, "seed": episode.seed, "reset": bool(episode.begins)}
    return sent | {EPISODE: whose}


def read_requests(message: Any, requires: Sequence[str]) -> list[Request]:
    """The requests of a message, one or a batch; unknown keys are left alone.

    Raises:
        UserError: a missing or misshapen observation, or a slot twice.
    """
    if not isinstance(message, dict):
        raise UserError("a request is a map of observations")
    rows = message.get(BATCH, [message])
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_SLOTS:
        raise UserError(f"a batch is a list of 1 to {MAX_SLOTS} requests", where=BATCH)
    requests = [_read_request(row, requires) for row in rows]
    if len({request.episode.slot for request in requests}) < len(requests):
        raise UserError("a slot occurs twice", where=BATCH)
    return requests


def write_answer(decision: Decision) -> dict[str, Any]:
    """A decision as an answer."""
    return {"actions": decision.actions, "text": decision.text, "tokens": decision.tokens}


def read_answers(message: Any, count: int | None, where: str) -> list[Decision]:
    """Decisions of an answer: `count` of a batch, or None: the one of a single request.

    Their numbers are passed on as they came: the evaluator judges them (`conventions.fault`) as it
    does any policy's, and records a bad one with its own episode.

    Raises:
        UserError: no array of actions, or another number of answers.
    """
    rows = [message] if count is None else message.get(BATCH) if isinstance(message, dict) else None
    if not isinstance(rows, list) or len(rows) != (count or 1):
        raise UserError(f"gave no {count} answers to {count} requests", where=where)
    return [_read_answer(row, where) for row in rows]


def _read_answer(row: Any, where: str) -> Decision:
    given = row if isinstance(row, dict) else {}
    actions, text, tokens = given.get("actions"), given.get("text"), given.get("tokens", 0)
    if not isinstance(actions, np.ndarray) or actions.dtype.kind not in "fiu":
        raise UserError("gave an answer without an array of numbers, `actions`", where=where)
    if not isinstance(text, str | None) or type(tokens) is not int:
        raise UserError("gave a `text` that is no text, or `tokens` that are no count", where=where)
    return Decision(actions.astype(np.float32), text, tokens)


def _read_request(row: Any, requires: Sequence[str]) -> Request:
    if not isinstance(row, dict):
        raise UserError("a request is a map of observations")
    if missing := [key for key in requires if row.get(key) is None]:
        fix = f"this policy reads {', '.join(requires)}"
        raise UserError(f"a request without {', '.join(missing)}", fix=fix)
    prompt = row.get(PROMPT)
    if not isinstance(prompt, str):
        raise UserError("not a text", where=PROMPT)
    state = _vector(row, STATE, len(STATE_NAMES))
    observation = Observation(
        image=_image(row.get(IMAGE)),
        state=state,
        controller=_vector(row, CONTROLLER, 6, state[:6]),
        environment_state=_vector(row, PRIVILEGED, len(UNKNOWN), UNKNOWN),
        instruction=prompt,
    )
    return Request(_episode(row.get(EPISODE, {})), observation)


def _episode(given: Any) -> Episode:
    if not isinstance(given, dict):
        raise UserError("not a map of slot, seed and reset", where=EPISODE)
    slot, seed, begins = given.get("slot", 0), given.get("seed", 0), given.get("reset")
    if type(slot) is not int or not 0 <= slot < MAX_SLOTS:
        raise UserError(f"slot {slot!r:.40} is not in 0 to {MAX_SLOTS - 1}", where=EPISODE)
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise UserError(f"seed {seed!r:.40} is not a whole number below 2**63", where=EPISODE)
    if not isinstance(begins, bool | None):
        raise UserError(f"reset {begins!r:.40} is neither true nor false", where=EPISODE)
    return Episode(slot, seed, begins)


def _image(given: Any) -> ImageArray | None:
    if given is None:
        return None
    if not isinstance(given, np.ndarray) or given.dtype != np.uint8:
        raise UserError("not an array of uint8", where=IMAGE)
    if (
        given.ndim != 3
        or given.shape[2] != 3
        or not 0 < min(given.shape) <= max(given.shape) <= MAX_SIDE
    ):
        raise UserError(f"shape {given.shape} is not (height, width, 3)", where=IMAGE)
    return given


def _vector(
    row: dict[str, Any], key: str, size: int, otherwise: FloatArray | None = None
) -> FloatArray:
    given = row.get(key)
    if given is None and otherwise is not None:
        return otherwise
    try:
        vector = np.asarray(given, np.float32)
    except (TypeError, ValueError) as error:
        raise UserError("not numbers", where=key) from error
    if vector.shape != (size,) or not np.isfinite(vector).all():
        raise UserError(f"not {size} finite numbers: shape {vector.shape}", where=key)
    return vector
