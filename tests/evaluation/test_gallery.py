"""The page of an evaluation: what it says, that it stands alone, and what a click does."""

import itertools
import re

import chromium
import numpy as np
import pandas as pd
import pytest
import yaml

from dualvla import files
from dualvla.errors import UserError
from dualvla.evaluation import failures, gallery, simpler, statistics, videos

TASKS = ("carrot", "spoon")
ENDS = ("success", "not_reached", "not_grasped", "dropped", "misplaced", "timeout", "error")


@pytest.fixture
def out(tmp_path):
    """A folder as an evaluation writes it: each task ends in each way once, four with a video."""
    rows, told = [], []
    for number, (task, ended) in enumerate(itertools.product(TASKS, ENDS)):
        row = dict.fromkeys(simpler.EPISODE_TYPES)
        row |= {"starts": "official", "task": task, "start_id": f"{number:02}#1", "seed": number}
        row |= {"status": "error" if ended == "error" else "ok"}
        if ended == "error":
            row["error"] = "the simulation process <ended> with exit code -9"
        else:
            row |= {"last_step": ended == "success", "steps": 60, "failure": ended}
        rows.append(row)
        key = {name: row[name] for name in simpler.KEY}
        told.append(key | {"instruction": f"put the {task} & the <rest> away"})
    table = pd.DataFrame(rows).astype(simpler.EPISODE_TYPES)
    table.to_parquet(tmp_path / simpler.EPISODES)
    files.write_json(
        tmp_path / "summary.json",
        {
            "model": "expert",
            "success_mode": "last_step",
            "assets": "generated",
            "seed": 0,
            "policy": {"kind": "expert", "fingerprint": "expert"},
            "protocol": {"name": "widowx", "hash": "0123456789abcdef"},
        },
    )
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump({"episodes": told}))
    for row in rows[::4]:
        frames = [np.full((48, 64, 3), 40 * step, np.uint8) for step in range(4)]
        film = videos.Film(frames, ["down"] * 4, "put it away", 5.0, np.zeros((3, 7), np.float32))
        name = videos.name(row["starts"], row["task"], row["start_id"])
        videos.write(tmp_path / "videos" / name, film)
    return tmp_path


def read(out):
    gallery.write(out)
    return (out / gallery.PAGE).read_text()


def test_every_episode_is_on_the_page_and_every_video_is_linked(out):
    text = read(out)
    assert text.count("<figure") == 4
    assert text.count("<tr data-task") == 10
    linked = re.findall(r'src="([^"]+)"', text)
    assert linked == [
        f"videos/{path.name.replace('#', '%23')}" for path in sorted((out / "videos").iterdir())
    ]


def test_rates_have_their_interval_and_failures_their_counts(out):
    text = read(out)
    low, high = statistics.wilson(1, 6)
    assert f"<td>{100 * low:.1f}</td><td>{100 * high:.1f}</td><td>1</td><td>6</td>" in text
    counts = failures.table(pd.read_parquet(out / simpler.EPISODES))
    assert [row["task"] for row in counts] == ["all", *TASKS]
    assert counts[0] | {"n": 12, "errors": 2, "success": 2, "dropped": 2, "unknown": 0} == counts[0]
    assert '<a href="#show:official:spoon:dropped">1</a>' in text


def test_the_page_stands_alone_and_has_the_same_bytes_each_time(out):
    text = read(out)
    assert "://" not in text.replace("http://www.w3.org", "")
    assert str(out) not in text
    assert "&lt;rest&gt;" in text  # nothing from outside becomes markup
    assert "<rest>" not in text
    assert read(out) == text


@pytest.mark.parametrize("name", [simpler.EPISODES, "summary.json", "protocol.yaml"])
def test_a_folder_that_is_no_evaluation_is_refused(out, name):
    (out / name).unlink()
    with pytest.raises(UserError, match=r"file"):
        gallery.write(out)
    assert not (out / gallery.PAGE).exists()


def test_an_episode_of_another_protocol_is_refused(out):
    (out / "protocol.yaml").write_text(yaml.safe_dump({"episodes": []}))
    with pytest.raises(UserError, match="not in the protocol"):
        gallery.write(out)


@pytest.mark.slow
@chromium.needed
def test_a_count_leads_to_its_episodes_in_a_browser(out, tmp_path_factory):
    gallery.write(out)
    folder = tmp_path_factory.mktemp("browser")
    with chromium.page((out / gallery.PAGE).as_uri(), folder) as page:
        shown = "[...document.querySelectorAll('[data-ended]:not([hidden])')].map(e => e.dataset)"
        told = f"{shown}.map(e => e.task + ' ' + e.ended).join()"
        chromium.wait(lambda: page.value("document.querySelector('output')?.textContent"))
        assert page.value(f"{shown}.length") == 14
        page.value("document.querySelector('a[href$=\"spoon:dropped\"]').click()")
        assert page.value(told) == "spoon dropped"
        page.value(
            "document.querySelector('[name=ended]').value = '!success';"
            "document.querySelector('.bar').dispatchEvent(new Event('input'))"
        )
        assert page.value(f"{shown}.length") == 6
        ready = "document.querySelector('figure:not([hidden]) video').readyState"
        chromium.wait(lambda: page.value(ready))  # its first picture is there without a click
