"""Videos and pictures inside the page, as data URIs up to a cap.

A page that plays on its own can be mailed or archived; one of a hundred megabytes cannot be opened.
Videos are embedded in the summary's order while they fit under the cap; the rest is copied beside
the page and linked.
"""

import base64
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualvla import paths

CAP = 8 * 2**20  # bytes of video inside the page


@dataclass(frozen=True)
class Media:
    """What the page shows besides figures."""

    videos: Mapping[str, str]  # path in the workspace -> address in the page
    timeline: str | None  # address of the pruning timeline


def collect(videos: Sequence[Mapping[str, Any]], folder: Path, cap: int = CAP) -> Media:
    """Embed or copy the videos listed in a summary, and the pruning timeline.

    Args:
        videos: rows with `model` and `file`, a path relative to the current folder.
        folder: where the page will lie; gets `videos/` if some do not fit.
        cap: bytes of video embedded at most.
    """
    addresses, used = {}, 0
    for row in videos:
        path = Path(row["file"])
        size = path.stat().st_size
        if used + size <= cap:
            used += size
            addresses[str(path)] = _data_uri(path, "video/mp4")
        else:
            name = f"{row['model']}-{path.name}"
            (folder / "videos").mkdir(exist_ok=True)
            shutil.copyfile(path, folder / "videos" / name)
            addresses[str(path)] = f"videos/{name}"
    timeline = paths.PRUNED / "timeline.png"
    picture = _data_uri(timeline, "image/png") if timeline.is_file() else None
    return Media(addresses, picture)


def _data_uri(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
