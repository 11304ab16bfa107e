"""VLA-IT annotations: what is said of an episode and of each of its frames.

A frame gets a subtask, a move and a scene; an episode a plan, a caption, questions, rewritten
commands and created contexts (DualVLA and InstructVLA, sections on VLA-IT).

The papers let a large model look at three frames; here everything follows from what the pipeline
knows exactly: the simulator's state and the expert's phase, or of imported data the instruction and
the motion alone (then without positions). That makes annotations right, free and the same on every
machine, and leaves them as varied as the templates of `phrases`, no more.

LeRobot's language columns hold them. Persistent rows: `plan`, `subtask` and `motion` (each from its
time on), `task_aug` (a rewritten command) and, a style of our own, `context` (a created context).
Event rows are pairs of style `vqa`: where the objects are at this frame; on an episode's first
frame also the caption and the questions. Every frame thus has its reasoning; pruning decides what
stays.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualvla.config import Annotate
from dualvla.conventions import ENVIRONMENT_STATE_NAMES, PHASES
from dualvla.data import phrases
from dualvla.data.features import CAMERA
from dualvla.data.phrases import Command
from dualvla.data.writing import LanguageRow
from dualvla.objects import BY_NAME, OBJECTS

Floats = NDArray[np.float32]

AHEAD = 4  # frames over which upcoming motion is summed: a move is what the picture asks for next
MIN_MOVE = 0.02  # metres; less over AHEAD frames is no motion
MIN_SHARE = 0.5  # an axis is named if it has this share of the greatest displacement
MIN_TURN = 0.25  # radians over AHEAD frames; less is no turn
NEAR = 2  # frames around a gripper command that belong to grasping or placing
CLEAR = 0.08  # share of the image by which things must lie apart to be left or right of each other

SCENE_QUESTION = "where are the objects?"
CAPTION_QUESTION = "describe the scene"

_AT = {name: index for index, name in enumerate(ENVIRONMENT_STATE_NAMES)}


@dataclass(frozen=True)
class Episode:
    """What annotations are made from; T frames."""

    index: int
    task: str
    states: Floats  # (T, 7)
    actions: Floats  # (T, 7)
    environment: Floats | None  # (T, K) conventions.ENVIRONMENT_STATE_NAMES; None for imported data
    distractors: tuple[str, ...] = ()  # other things in the scene; their places are not recorded


@dataclass(frozen=True)
class Annotation:
    """All that is said about an episode."""

    plan: str
    subtasks: tuple[str, ...]  # T
    moves: tuple[str, ...]  # T
    scenes: tuple[str, ...]  # T; empty where no object's position is known
    caption: str
    questions: tuple[tuple[str, str], ...]  # question and answer
    rewrites: tuple[str, ...]
    contexts: tuple[str, ...]


def annotate(episode: Episode, params: Annotate, *, seed: int, dataset: str) -> Annotation:
    """Annotate an episode; the same episode, seed and data set name give the same text.

    Args:
        episode: its numbers.
        params: how many questions, rewrites and contexts; fewer where there are no more.
        seed: of the random choices.
        dataset: identity of the data set.
    """
    command = phrases.parse(episode.task)
    rng = _rng(seed, dataset, episode.index)
    kinds = subtasks(episode)
    # Colours and shapes are those of our own objects: they hold in simulation only.
    known = episode.environment is not None
    rewrites = phrases.rewrites(command, appearance=known)
    contexts = phrases.contexts(command, appearance=known)
    return Annotation(
        plan=phrases.plan(kinds, command),
        subtasks=tuple(phrases.subtask(kind, command) for kind in kinds),
        moves=moves(episode.states, episode.actions),
        scenes=scenes(episode, command),
        caption=caption(episode, command),
        questions=_choose(rng, questions(episode, command, rng), params.questions),
        rewrites=_choose(rng, rewrites, params.rewrites),
        contexts=_choose(rng, contexts, params.contexts),
    )


def rows(annotation: Annotation, fps: int) -> tuple[list[LanguageRow], list[list[LanguageRow]]]:
    """An annotation as LeRobot language rows: persistent ones, and events of each frame."""
    persistent = [_row("assistant", annotation.plan, "plan", time=0.0)]
    for style, texts in (("subtask", annotation.subtasks), ("motion", annotation.moves)):
        for frame, text in enumerate(texts):
            if frame == 0 or text != texts[frame - 1]:
                persistent.append(_row("assistant", text, style, time=frame / fps))
    persistent += [_row("user", text, "task_aug", time=0.0) for text in annotation.rewrites]
    persistent += [_row("user", text, "context", time=0.0) for text in annotation.contexts]
    events = [_pair(SCENE_QUESTION, scene) if scene else [] for scene in annotation.scenes]
    if annotation.caption:
        events[0] = events[0] + _pair(CAPTION_QUESTION, annotation.caption)
    for question, answer in annotation.questions:
        events[0] = events[0] + _pair(question, answer)
    return persistent, events


def subtasks(episode: Episode) -> list[str]:
    """Kind of subtask of each frame, from phrases.SUBTASKS.

    From the expert's phase where there is one; otherwise from the gripper commands: reaching while
    it is open, grasping around its closing, moving while it is closed, placing before it opens.
    """
    if episode.environment is not None:
        phases = np.rint(episode.environment[:, _AT["phase"]]).astype(int)
        if (phases >= 0).all():
            return [phrases.SUBTASK_OF_PHASE[PHASES[phase]] for phase in phases]
    closed = episode.actions[:, 6] < 0
    kinds = []
    for frame in range(len(closed)):
        before = closed[max(frame - NEAR, 0) : frame]
        after = closed[frame + 1 : frame + 1 + NEAR]
        if closed[frame]:
            grasping = len(before) > 0 and not before.all()
            kinds.append("grasp" if grasping else "move" if after.all() else "place")
        elif after.any():
            kinds.append("grasp")
        else:
            kinds.append("release" if closed[:frame].any() else "reach")
    return kinds


def moves(states: Floats, actions: Floats) -> tuple[str, ...]:
    """Move primitive of each frame: `move left down`, `turn left`, `close gripper`, `hold still`.

    A direction is named if the measured displacement over the next AHEAD frames, or up to the next
    gripper command if that comes sooner, reaches MIN_MOVE along its axis of the robot base frame
    and MIN_SHARE of the greatest one; at most two are. The gripper is named at the frame whose
    command changes and the one before it, and earlier if the arm already waits for it; a turn only
    without.

    Args:
        states: (T, 7) measured poses, metres and radians.
        actions: (T, 7); the gripper is +1 open, -1 closed.
    """
    length = len(states)
    # The motion of the last action is not measured any more: it is taken from the action.
    last = states[-1, :6] + actions[-1, :6]
    poses = np.concatenate([states[:, :6], last[None]]).astype(np.float64)
    gripper = np.where(actions[:, 6] > 0, 1, -1)
    start = 1 if states[0, 6] > 0.5 else -1
    changes = np.flatnonzero(np.diff(gripper, prepend=start))
    texts = []
    for frame in range(length):
        coming = changes[changes >= frame]
        change = int(coming[0]) if len(coming) else length + AHEAD
        end = min(frame + AHEAD, max(change, frame + 1), length)
        moved = poses[end] - poses[frame]
        turn = (moved[5] + np.pi) % (2 * np.pi) - np.pi
        words = _directions(moved[:3])
        parts = [f"move {' '.join(words)}"] if words else []
        if change <= frame + 1 or (change < frame + AHEAD and not words):
            parts.append(phrases.GRIPPER[int(gripper[change])])
        elif abs(turn) >= MIN_TURN:
            parts.append(phrases.TURNS[int(turn < 0)])
        texts.append(" ".join(parts) or phrases.STILL)
    return tuple(texts)


def scenes(episode: Episode, command: Command) -> tuple[str, ...]:
    """Positions of source and target at each frame in percent of image width and height.

    `carrot at 34 60 ; plate at 80 21`; a thing outside the picture is left out.
    """
    empty = ("",) * len(episode.states)
    if episode.environment is None:
        return empty
    texts = []
    for frame in episode.environment:
        seen = []
        for role, name in (("source", command.source), ("target", command.target)):
            u, v = (float(frame[_AT[f"{role}.{axis}"]]) for axis in "uv")
            if name and 0 <= u <= 1 and 0 <= v <= 1:
                seen.append(f"{name} at {round(100 * u)} {round(100 * v)}")
        texts.append(" ; ".join(seen))
    return tuple(texts)


def caption(episode: Episode, command: Command) -> str:
    """What the first picture shows, in one sentence; empty if nothing is known of it."""
    if not command.source:
        return ""
    if not command.target:
        return f"a robot arm near {phrases.article(command.source)}"
    seen = episode.environment is not None
    source, target = (
        f"{thing.colour} {name.removeprefix(thing.colour).strip()}" if thing and seen else name
        for thing, name in zip(command.things, (command.source, command.target), strict=True)
    )
    where = relation(episode)
    source, target = phrases.article(source), phrases.article(target)
    return f"a robot arm and {source} {where or 'and'} {target}"


def relation(episode: Episode) -> str:
    """Where the source lies in the first picture, seen from the target; empty if unknown."""
    if episode.environment is None:
        return ""
    first = episode.environment[0]
    across, down = (
        float(first[_AT[f"source.{axis}"]] - first[_AT[f"target.{axis}"]]) for axis in "uv"
    )
    if max(abs(across), abs(down)) < CLEAR:
        return "next to"
    if abs(across) >= abs(down):
        return "left of" if across < 0 else "right of"
    return "behind" if down < 0 else "in front of"


def questions(
    episode: Episode, command: Command, rng: np.random.Generator
) -> tuple[tuple[str, str], ...]:
    """Questions about the first picture and the command with their answers, in a fixed order.

    Every yes has a no of equal chance, so that answers cannot be guessed from the question alone.
    """
    found: list[tuple[str, str]] = []
    if command.source:
        found.append(("what does the robot move?", f"the {command.source}"))
    if command.target:
        place = f"{command.preposition} the {command.target}"
        found.append((f"where does the {command.source} go?", place))
    things = [thing for thing in command.things if thing is not None]
    for thing in things:
        if episode.environment is not None:
            found += [
                (f"what colour is the {thing.name}?", thing.colour),
                (f"what shape is the {thing.name}?", thing.shape),
            ]
        found += [
            (f"what kind of thing is the {thing.name}?", phrases.KINDS[thing.category]),
            (f"what is the {thing.name} for?", thing.use),
        ]
    if episode.environment is not None and len(things) == 2:
        where = relation(episode)
        found.append((f"where is the {command.source} from the {command.target}?", where))
        present = {thing.name for thing in things} | set(episode.distractors)
        absent = [name for name in BY_NAME if name not in present]
        asked, answer = (sorted(present), "yes") if rng.random() < 0.5 else (absent, "no")
        name = asked[int(rng.integers(len(asked)))]
        found.append((f"is there {phrases.article(name)} on the table?", answer))
    return tuple(found)


def sentences() -> list[str]:
    """Every caption, question and answer about known things, for a tokenizer."""
    places = ("left of", "right of", "behind", "in front of", "next to")
    texts = [SCENE_QUESTION, CAPTION_QUESTION, "yes", "no", "a robot arm near an object", *places]
    texts += ["what does the robot move?"]
    for thing in OBJECTS:
        name = thing.name
        texts += [
            f"the {name}",
            f"in the {name}",
            f"on the {name}",
            f"where does the {name} go?",
            f"what colour is the {name}?",
            f"what shape is the {name}?",
            f"what kind of thing is the {name}?",
            f"what is the {name} for?",
            f"is there {phrases.article(name)} on the table?",
            f"a robot arm and a {thing.colour} {name} and an {thing.shape} {thing.colour} {name}",
            thing.use,
            phrases.KINDS[thing.category],
        ]
        texts += [f"where is the {name} from the {other.name}?" for other in OBJECTS]
    return texts


def _directions(moved: NDArray[np.float64]) -> list[str]:
    size = np.abs(moved)
    limit = max(MIN_MOVE, MIN_SHARE * float(size.max()))
    named = sorted(np.argsort(-size, kind="stable")[:2].tolist())
    return [phrases.DIRECTIONS[axis][int(moved[axis] < 0)] for axis in named if size[axis] >= limit]


def _choose(rng: np.random.Generator, options: Sequence, count: int) -> tuple:
    chosen = rng.permutation(len(options))[:count]
    return tuple(options[int(i)] for i in chosen)


def _rng(seed: int, dataset: str, episode: int) -> np.random.Generator:
    # Hashed, so that adding or removing an episode changes no other one's annotations.
    digest = hashlib.sha256(f"{seed}/{dataset}/{episode}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _row(role: str, text: str, style: str, time: float) -> LanguageRow:
    return {"role": role, "content": text, "style": style, "timestamp": time}


def _pair(question: str, answer: str) -> list[LanguageRow]:
    return [
        {"role": "user", "content": question, "style": "vqa", "camera": CAMERA},
        {"role": "assistant", "content": answer, "style": "vqa", "camera": CAMERA},
    ]
