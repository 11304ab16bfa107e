"""Pictures of an episode as a judge sees them: read back from its video, without the caption.

Videos are the only pictures that an evaluation keeps. They are small and lossy, which a judge of
pick and place bears; keeping every picture would cost far more space. The caption under
a picture is cut off, because it repeats the model's words beside what they are judged by.
"""

import base64
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
from PIL import Image

from dualvla.interface import ImageArray

JPEG_QUALITY = 85
Film = Callable[[Sequence[int]], list[ImageArray]]  # pictures at steps, in the order asked for


class UnreadableError(Exception):
    """A film that cannot be shown."""


def of_video(path: Path, steps: Sequence[int]) -> list[ImageArray]:
    """Pictures at `steps` (0 is the first) of an mp4 that `videos.write` wrote: (H, W, 3) each.

    Raises:
        UnreadableError: no such file, no video, or fewer pictures than asked for.
    """
    wanted, found = set(steps), dict[int, ImageArray]()
    try:
        with av.open(str(path)) as container:
            size = re.fullmatch(r"picture (\d+)x(\d+)", container.metadata.get("comment", ""))
            if size is None:
                raise UnreadableError(f"{path.name}: says no size of its pictures")
            width, height = (int(pixels) for pixels in size.groups())
            for step, frame in enumerate(container.decode(video=0)):
                if step in wanted:
                    found[step] = np.asarray(
                        frame.to_ndarray(format="rgb24")[:height, :width], np.uint8
                    )
    except (av.FFmpegError, OSError, IndexError) as error:
        raise UnreadableError(f"{path.name}: {type(error).__name__}") from error
    missing = sorted(wanted - found.keys())
    if missing:
        raise UnreadableError(f"{path.name}: no picture at step {missing[0]}")
    return [found[step] for step in steps]


def spread(length: int, count: int) -> list[int]:
    """At most `count` steps out of `length`, evenly, the first and the last among them."""
    return sorted({round(step) for step in np.linspace(0, length - 1, min(count, length))})


def jpeg(picture: ImageArray) -> bytes:
    """Encode a picture; the same picture gives the same bytes."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()


def data_uri(encoded: bytes) -> str:
    """A JPEG as an address that pages and endpoints read."""
    return f"data:image/jpeg;base64,{base64.b64encode(encoded).decode()}"
