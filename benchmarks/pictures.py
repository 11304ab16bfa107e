"""Draw docs/pictures/tasks.png: the first official start of each task, as the policy sees it.

Usage: python benchmarks/pictures.py [--assets generated]
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dualvla.simulation import assets, starts
from dualvla.simulation.environments import TASKS, Environment

OUT = Path(__file__).parents[1] / "docs/pictures/tasks.png"
SIZE, STRIP = 256, 22


def main() -> None:
    """Render and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", default="generated", choices=["generated", "official"])
    given = parser.parse_args()
    assets.activate(given.assets)
    sheet = Image.new("RGB", (SIZE * len(TASKS), SIZE + STRIP), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (task, spec) in enumerate(TASKS.items()):
        environment = Environment(task, given.assets, SIZE)
        image = environment.reset(starts.fixed(task, "official")[0]).image
        environment.close()
        sheet.paste(Image.fromarray(np.asarray(image)), (column * SIZE, 0))
        draw.text((column * SIZE + 6, SIZE + 5), spec.instruction, fill="black")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(OUT, optimize=True)


if __name__ == "__main__":
    main()
