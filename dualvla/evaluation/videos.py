"""Videos of episodes: what the camera saw, what the model was told, what it said.

Small H.264 files (MPEG-4 part 2 where this build of FFmpeg has no H.264), written with one thread
and without time stamps, so that the same frames give the same bytes.
"""

import textwrap
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dualvla.interface import ImageArray

WIDTH = 320  # pixels; pictures are scaled to it
LINES = 4  # of reasoning text
FONT_SIZE = 12
LINE_HEIGHT = 16
LETTERS = 52  # that fit a line
MARGIN = 6


def write(
    path: Path,
    frames: Sequence[ImageArray],
    texts: Sequence[str | None],
    instruction: str,
    fps: float,
) -> None:
    """Write an mp4 of one episode.

    Args:
        path: file to write.
        frames: (height, width, 3) pictures of one size, one a step.
        texts: reasoning in force at each, None where there is none.
        instruction: what the robot was told.
        fps: frames a second.

    Raises:
        ValueError: no frames, or not as many texts.
    """
    if not frames or len(frames) != len(texts):
        raise ValueError(f"{len(frames)} frames, {len(texts)} texts")
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    font = ImageFont.load_default(FONT_SIZE)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream: Any = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1000))
        stream.codec_context.thread_count = 1
        stream.pix_fmt = "yuv420p"
        if codec == "libx264":
            stream.options = {"crf": "27", "preset": "veryfast"}
        for step, (frame, text) in enumerate(zip(frames, texts, strict=True)):
            label = f"step {step}/{len(frames) - 1}"
            picture = _captioned(frame, [instruction, label, *_lines(text)], font)
            if not step:
                stream.width, stream.height = picture.size
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode(None))


def _lines(text: str | None) -> list[str]:
    if text is None:
        return ["(no reasoning)"]
    return textwrap.wrap(text, LETTERS, max_lines=LINES, placeholder=" ...")


def _captioned(
    frame: ImageArray, lines: Sequence[str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> Image.Image:
    view = Image.fromarray(np.ascontiguousarray(frame))
    # H.264 needs even sizes.
    height = round(view.height * WIDTH / view.width / 2) * 2
    canvas = Image.new("RGB", (WIDTH, height + (LINES + 2) * LINE_HEIGHT + 2 * MARGIN), "black")
    canvas.paste(view.resize((WIDTH, height), Image.Resampling.BILINEAR))
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        place = (MARGIN, height + MARGIN + number * LINE_HEIGHT)
        draw.text(place, line, fill="white" if number < 2 else "lightgreen", font=font)
    return canvas
