"""Videos of episodes: what the camera saw, what the model was told, said and did.

Small H.264 files (MPEG-4 part 2 where this build of FFmpeg has no H.264). The same film gives the
same bytes, in any process and on any processor: one thread, no time stamps, and of the colour
conversion and the encoder only the code whose result does not hang on the processor's instructions.
That costs a little speed, so a `Writer` draws and encodes beside the rollouts. It is a thread: most
of its work is done outside the interpreter's lock, pictures need not be copied, and a killed run
leaves no process behind. A process of its own slowed the caller more, by the copying.
"""

import textwrap
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation
from PIL import Image, ImageDraw, ImageFont

from dualvla import files
from dualvla.conventions import ACTION_NAMES, PHASES
from dualvla.evaluation.speech import claims
from dualvla.interface import FloatArray, ImageArray

WIDTH = 320  # pixels; pictures are scaled to it
TOLD, SAID = 2, 4  # lines of instruction and of reasoning text at most
FONT_SIZE, SMALL = 12, 9
LINE_HEIGHT, ROW_HEIGHT = 16, 14
LETTERS = 52  # that fit a line
MARGIN = 6
NAMES = 40  # pixels for the names of the action strip's rows
WAITING = 4  # films of a `Writer` that may wait; each holds some megabytes of pictures

EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
H264 = {"crf": "27", "preset": "veryfast", "x264-params": "cpu-independent=1"}

Colour = tuple[int, int, int]
WHITE, GREY, GREEN, LINE = (255, 255, 255), (150, 156, 166), (144, 238, 144), (58, 64, 74)
# By row of the action strip: translation, rotation, gripper.
COLOURS = (*[(98, 170, 235)] * 3, *[(186, 146, 240)] * 3, (242, 176, 74))


@dataclass(frozen=True, eq=False)
class Film:
    """What a video shows of an episode of T steps."""

    frames: Sequence[ImageArray]  # T + 1 pictures (height, width, 3) of one size
    texts: Sequence[str | None]  # T + 1, reasoning in force, None where there is none
    instruction: str  # what the robot was told
    fps: float  # frames a second
    actions: FloatArray  # (T, 7) conventions.ACTION_NAMES
    phases: Sequence[int] | None = None  # T + 1, index into conventions.PHASES or -1

    def __post_init__(self) -> None:
        """Refuse parts that do not fit."""
        count = len(self.frames)
        if not count or len(self.texts) != count or np.shape(self.actions) != (count - 1, 7):
            shape = np.shape(self.actions)
            raise ValueError(f"{count} frames, {len(self.texts)} texts, actions {shape}")
        if self.phases is not None and len(self.phases) != count:
            raise ValueError(f"{count} frames, {len(self.phases)} phases")


def name(starts: str, task: str, start_id: str) -> str:
    """File name of an episode's video: where the gallery looks for it."""
    return f"{starts}-{task}-{start_id}.mp4"


def write(path: Path, film: Film) -> None:
    """Write an mp4 of one episode; it is there in whole or not at all."""
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    movable = {"movflags": "+faststart"}
    with (
        files.replacing(path) as beside,
        av.open(str(beside), "w", format="mp4", options=movable) as container,
    ):
        # So that a reader finds the picture above the caption.
        container.metadata["comment"] = "picture {}x{}".format(*_view(film))
        stream: Any = container.add_stream(codec, rate=Fraction(film.fps).limit_denominator(1000))
        stream.codec_context.thread_count = 1
        stream.pix_fmt = "yuv420p"
        if codec == "libx264":
            stream.options = H264
        for step, picture in enumerate(_pictures(film)):
            if not step:
                stream.width, stream.height = picture.size
            frame = av.VideoFrame.from_image(picture)
            exact = frame.reformat(format="yuv420p", interpolation=EXACT, threads=1)
            container.mux(stream.encode(exact))
        container.mux(stream.encode(None))


class Writer:
    """Writes videos beside the caller's work, one after the other, in the order submitted.

    At most `WAITING` films wait; beyond that `submit` waits too, so that a slow disk costs time
    and not memory. An error in writing is raised in the caller by the next `submit`, or at the end
    of the `with` block; no file is left half-written. A block that ends by an error of its own
    drops what still waits.

        with videos.Writer() as writer:
            writer.submit(path, film)
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "videos")
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> "Writer":
        return self

    def submit(self, path: Path, film: Film) -> None:
        """Have a film written to `path`; its arrays must not be changed afterwards."""
        while self._pending and (self._pending[0].done() or len(self._pending) >= WAITING):
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(write, path, film))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        while self._pending and kind is None:
            self._pending.popleft().result()


def _pictures(film: Film) -> Iterator[Image.Image]:
    """Pictures drawn on one canvas: each must be used before the next one is asked for."""
    view = _view(film)
    strips = [_strip(film.actions, light) for light in (1.0, 0.4)]
    told = _wrapped(film.instruction, TOLD)
    said = {text: _wrapped("(no reasoning)" if text is None else text, SAID) for text in film.texts}
    label = view[1] + MARGIN + len(told) * LINE_HEIGHT
    below = label + (1 + max(map(len, said.values()))) * LINE_HEIGHT + MARGIN
    bottom = (below + strips[0].height + MARGIN + 1) // 2 * 2  # H.264 needs even sizes
    canvas = Image.new("RGB", (WIDTH, bottom), "black")
    draw = ImageDraw.Draw(canvas)
    _lines(draw, view[1] + MARGIN, told, WHITE)
    for step, (frame, text) in enumerate(zip(film.frames, film.texts, strict=True)):
        picture = Image.fromarray(np.ascontiguousarray(frame))
        canvas.paste(picture.resize(view, Image.Resampling.BILINEAR))
        draw.rectangle([(0, label), (WIDTH, label + LINE_HEIGHT - 1)], "black")
        _lines(draw, label, [f"step {step}/{len(film.actions)}{_subtask(film, step)}"], GREY)
        # Lines of text cost more than all else: they are drawn when they change.
        if not step or text != film.texts[step - 1]:
            draw.rectangle([(0, label + LINE_HEIGHT), (WIDTH, below - 1)], "black")
            _lines(draw, label + LINE_HEIGHT, said[text], GREY if text is None else GREEN)
        cursor = NAMES + _column(step, len(film.actions))
        for strip, right in zip(reversed(strips), (WIDTH, cursor), strict=True):
            canvas.paste(strip.crop((0, 0, right, strip.height)), (0, below))
        draw.line([(cursor, below), (cursor, below + strips[0].height - 1)], fill=WHITE)
        yield canvas


def _view(film: Film) -> tuple[int, int]:
    """Width and height of the camera's picture in a video, pixels."""
    tall, wide = film.frames[0].shape[:2]
    return WIDTH, round(tall * WIDTH / wide)


def _wrapped(text: str, lines: int) -> list[str]:
    return textwrap.wrap(text, LETTERS, max_lines=lines, placeholder=" ...")


def _lines(draw: ImageDraw.ImageDraw, top: int, lines: Sequence[str], fill: Colour) -> None:
    font = ImageFont.load_default(FONT_SIZE)
    for number, line in enumerate(lines):
        draw.text((MARGIN, top + number * LINE_HEIGHT), line, fill=fill, font=font)


def _subtask(film: Film, step: int) -> str:
    """What is said to be done, and what the simulator's expert does, as far as they are known."""
    heard = claims(film.texts[step])
    said = "/".join(phase for phase in PHASES if phase in heard.phases)
    parts = [f"says {' '.join([said, *heard.things])}"] if said else []
    if film.phases is not None and film.phases[step] >= 0:
        parts.append(f"does {PHASES[film.phases[step]]}")
    return "".join(f" | {part}" for part in parts)


def _strip(actions: FloatArray, light: float) -> Image.Image:
    """The seven channels over time as bars around a middle line, the gripper's open or closed.

    Translations share one scale and rotations another: the largest value of the episode.
    """
    strip = Image.new("RGB", (WIDTH, len(ACTION_NAMES) * ROW_HEIGHT), "black")
    draw = ImageDraw.Draw(strip)
    font = ImageFont.load_default(SMALL)
    scales = np.ones(len(ACTION_NAMES))
    for part in (slice(0, 3), slice(3, 6)):
        scales[part] = np.abs(actions[:, part]).max(initial=1e-9)
    for row, (name, colour) in enumerate(zip(ACTION_NAMES, COLOURS, strict=True)):
        fill = (round(light * colour[0]), round(light * colour[1]), round(light * colour[2]))
        top, half = row * ROW_HEIGHT, ROW_HEIGHT // 2 - 1
        middle = top + half
        draw.text((MARGIN, top), name, fill=fill, font=font)
        draw.line([(NAMES, middle), (WIDTH - MARGIN, middle)], fill=LINE)
        for step, action in enumerate(np.clip(actions[:, row] / scales[row], -1, 1)):
            left, right = (NAMES + _column(at, len(actions)) for at in (step, step + 1))
            end = middle - round(half * float(action))
            box = [(left, min(middle, end)), (max(left, right - 1), max(middle, end))]
            draw.rectangle(box, fill=fill)
    return strip


def _column(step: int, steps: int) -> int:
    """Pixels from the strip's beginning to a step."""
    return round((WIDTH - NAMES - MARGIN) * step / max(steps, 1))
