"""How often the scripted expert, without noise, solves the instruct starts; how they look.

Usage: python benchmarks/instruct.py [--assets generated] [--tasks carrot] [--every 1]
           [--sheet docs/pictures/x.jpg]

The expert is told which thing is meant, so a failure is the fault of a start: something in the way.
"""

import argparse
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dualvla.interface import ImageArray
from dualvla.simulation import assets, starts
from dualvla.simulation.environments import TASKS, Environment, value
from dualvla.simulation.expert import Expert
from dualvla.simulation.recording import HELD

SETS: tuple[starts.Name, ...] = ("instruct_rephrased", "instruct_situated")
SIZE, STRIP = 224, 28


def main() -> None:
    """Print one line a task and set, and one a failure; draw situated starts of each task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", default="generated", choices=["generated", "official"])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--every", type=int, default=1, help="of so many starts one is tried")
    parser.add_argument("--offset", type=int, default=0, help="first start")
    parser.add_argument("--sheet", type=Path, help="where to draw the contact sheet")
    given = parser.parse_args()
    assets.activate(given.assets)
    pictures: list[tuple[str, ImageArray]] = []
    for task in given.tasks:
        environment, expert = Environment(task, given.assets, SIZE), Expert(given.assets)
        for name in SETS:
            tried = starts.fixed(task, name)[given.offset :: given.every]
            failed = []
            for index, start in enumerate(tried):
                solved, image = solve(environment, expert, start)
                if not solved:
                    failed.append(start)
                if name == SETS[1] and index < 6:
                    pictures.append((start.instruction, image))
            print(f"{given.assets} {task} {name}: {len(tried) - len(failed)} of {len(tried)}")
            for start in failed:
                print(f"  failed: {start.id}, {', '.join(start.distractors)}", flush=True)
        environment.close()
    if given.sheet:
        draw(pictures, given.sheet)


def solve(environment: Environment, expert: Expert, start: starts.Start) -> tuple[bool, ImageArray]:
    """Whether the expert succeeds with nothing else moved; and the first picture."""
    seen = first = environment.reset(start)
    expert.reset(0, seen.instruction, 0)
    held = 0
    for _ in range(environment.max_steps):
        seen = environment.step(expert.act([0], [seen])[0].actions[0], render=False)
        done = value(seen, "success") > 0.5 and value(seen, "grasped") < 0.5
        held = held + 1 if done else 0
        if held == HELD:
            break
    assert first.image is not None
    return held > 0 and value(seen, "moved_wrong") < 0.5, first.image


def draw(pictures: list[tuple[str, ImageArray]], path: Path) -> None:
    """One row a task, the instruction under each picture."""
    columns = min(6, len(pictures))
    sheet = Image.new("RGB", (SIZE * columns, (SIZE + STRIP) * (len(pictures) // columns)), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (text, image) in enumerate(pictures):
        x, y = index % columns * SIZE, index // columns * (SIZE + STRIP)
        sheet.paste(Image.fromarray(np.asarray(image)), (x, y))
        pen.text((x + 3, y + SIZE + 2), textwrap.fill(text, 44), fill="black", font_size=9)
    sheet.save(path, quality=80, optimize=True)


if __name__ == "__main__":
    main()
