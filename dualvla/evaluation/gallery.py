"""A page to look at an evaluation: its rates, its failures and its videos, without a server.

One file that refers to the videos beside it and to nothing else, so that a results folder can be
moved, mailed or put into a bucket. All is there without JavaScript; with it the episodes can be
filtered, and a count in the table of failures leads to the episodes behind it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import av
import pandas as pd

from dualvla import config, files
from dualvla.errors import UserError
from dualvla.evaluation import failures, simpler, videos
from dualvla.report import rendering

PAGE, VIDEOS = "gallery.html", "videos"
CRASHED = "error"  # of an episode, beside failures.FAILURES


def write(out: Path) -> None:
    """Write OUT/gallery.html from its results.parquet, summary.json, protocol.yaml and videos/.

    Raises:
        UserError: one of them is missing or damaged.
    """
    table = out / simpler.EPISODES
    if not table.is_file():
        fix = "give the folder that an evaluation wrote"
        raise UserError("no such file", where=str(table), fix=fix)
    found = pd.read_parquet(table)
    summary = files.read_json(out / "summary.json")
    protocol = config.read_yaml(out / "protocol.yaml")
    mode = summary["success_mode"]
    told = {
        (one["starts"], one["task"], one["start_id"]): one["instruction"]
        for one in protocol["episodes"]
    }
    shown = [_episode(out, row, told) for row in found.to_dict("records")]
    filmed = [one for one in shown if one["video"]]
    values = {
        "style": rendering.page_style(),
        "title": f"{summary['model']} on {summary['protocol']['name']}",
        "chips": _chips(summary, len(found)),
        "mode": mode,
        "assets": summary["assets"],
        "rates": simpler.rates(found, mode),
        "failures": failures.table(found),
        "phases": _phases(shown),
        "tasks": list(dict.fromkeys(one["task"] for one in shown)),
        "filmed": filmed,
        "others": [one for one in shown if not one["video"]],
    }
    files.write_text(out / PAGE, rendering.render("gallery.html.j2", values, escape=True))


def _episode(out: Path, row: Mapping[Any, Any], told: Mapping[Any, str]) -> dict[str, Any]:
    """What the page says of one episode."""
    known = {name: None if pd.isna(value) else value for name, value in row.items()}
    key = (known["starts"], known["task"], known["start_id"])
    if key not in told:
        what = f"episode {' '.join(map(str, key))} is not in the protocol"
        raise UserError(what, where=str(out), fix="evaluate anew")
    name = videos.name(*map(str, key))
    film = out / VIDEOS / name
    start, starts = str(known["start_id"]), str(known["starts"])
    return known | {
        "ended": known["failure"] if known["status"] == "ok" else CRASHED,
        "instruction": told[key],
        "start": start if start.startswith(starts) else f"{starts} {start}",
        "video": f"{VIDEOS}/{quote(name)}" if film.is_file() else None,
        "size": _size(film) if film.is_file() else None,
    }


def _chips(summary: Mapping[str, Any], count: int) -> list[tuple[str, Any]]:
    policy, protocol = summary["policy"], summary["protocol"]
    named = dict.fromkeys((policy["kind"], policy["fingerprint"][:12]))
    return [
        ("policy", " ".join(named)),
        ("protocol", f"{protocol['name']} {protocol['hash'][:12]}"),
        ("assets", summary["assets"]),
        ("success mode", summary["success_mode"]),
        ("seed", summary["seed"]),
        ("episodes", count),
    ]


def _phases(shown: list[dict[str, Any]]) -> list[str]:
    """Ways to end that the tables need: all but those that are rare and did not occur."""
    rare = ("unknown", CRASHED)
    ended = {one["ended"] for one in shown}
    names = (failures.SUCCESS, *failures.FAILURES, CRASHED)
    return [name for name in names if name in ended or name not in rare]


def _size(path: Path) -> tuple[int, int]:
    """Width and height, so that the page does not jump when a video comes in."""
    with av.open(str(path)) as container:
        picture = container.streams.video[0]
        return picture.width, picture.height
