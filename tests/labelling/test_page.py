"""The labelling command as a person uses it: a real page in a real browser, keys, a file."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import chromium
import pytest
import simulated_episodes as simulated

from dualvla import files
from dualvla.data import rlds
from dualvla.labelling import labels

pytestmark = pytest.mark.slow  # a browser starts

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT.parent / "shared/data/bridge_rlds_sample"
PICTURE = ROOT / "docs/pictures/label.jpg"


@pytest.fixture
def start(tmp_path):
    """Start `dualvla label` on a data set; gives the process, its address and the label file."""
    started = []

    def begin(root, *more):
        out = tmp_path / "labels.json"
        command = [sys.executable, "-m", "dualvla.cli", "label", "--no-open", "--root", str(root)]
        process = subprocess.Popen(
            [*command, "--out", str(out), *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        started.append(process)
        return process, process.stdout.readline().split()[0], out

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def marks(out, episode=0):
    """Boundaries of an episode and whether it is done, as on disk."""
    found = labels.read(out).find(episode)
    return None if found is None else (found.boundaries, found.done)


@chromium.needed
def test_keys_in_a_browser_become_labels_on_disk(start, tmp_path):
    process, url, out = start(simulated.write(tmp_path / "data", size=64))
    with chromium.page(url, tmp_path / "browser") as page:
        chromium.wait(lambda: page.value("document.querySelector('#now img')?.naturalWidth") == 64)
        for key in ("ArrowRight", "Shift+ArrowRight", "ArrowLeft", "b"):
            page.press(key)
        chromium.wait(lambda: marks(out) == ((10,), False))
        text = "document.body.innerText"
        chromium.wait(lambda: "frame 10 of 0 to 28, boundary" in page.value(text))
        page.press("End")
        page.press(" ")
        chromium.wait(lambda: marks(out) == ((10, 28), False))
        page.press("Home")
        page.press("u")
        chromium.wait(lambda: marks(out) == ((10,), False))
        chromium.wait(lambda: page.value("location.hash") == "#0/28")  # undo leads to its frame
        page.press("Enter")
        chromium.wait(lambda: marks(out) == ((10,), True))
        page.press("n")
        chromium.wait(lambda: page.value("location.hash") == "#1/0")
        page.press("b")  # not at the first frame
        chromium.wait(lambda: "frames 1 to 28" in page.value(text))
        page.press("p")
        chromium.wait(lambda: page.value("location.hash") == "#0/0")
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert said.splitlines()[-1] == (
        f"1 of 2 episodes of simulation labelled, with 1 boundaries, in {out}"
    )
    assert (process.returncode, errors) == (0, "")


@chromium.needed
@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no sample of RLDS data")
def test_real_episodes_are_shown_with_their_marks(start, tmp_path):
    wanted = os.environ.get("DUALVLA_UPDATE_PICTURES") == "1"
    picture = PICTURE if wanted else tmp_path / "label.jpg"
    rlds.import_rlds(SAMPLE, tmp_path / "data")
    _, url, out = start(tmp_path / "data")
    with chromium.page(url, tmp_path / "browser") as page:
        chromium.wait(lambda: page.value("document.querySelector('#now img')?.naturalWidth"))
        for episode in range(1, 5):
            page.press("n")
            chromium.wait(lambda: page.value("location.hash") == f"#{episode}/0")  # noqa: B023
        for key in (*["ArrowRight"] * 3, "b", *["ArrowRight"] * 3, "b"):
            page.press(key)
        chromium.wait(lambda: marks(out, 4) == ((3, 6), False))
        complete = "[...document.images].every((one) => one.complete && one.naturalWidth)"
        chromium.wait(lambda: page.value(complete))
        marked = "document.querySelectorAll('#timeline .mark').length"
        chromium.wait(lambda: page.value(marked) == 2)
        page.shoot(picture)
    assert 20_000 < picture.stat().st_size < 200_000
    assert files.read_json(out)["dataset"] == "bridge_dataset"
