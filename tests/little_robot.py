"""A small simulator for the host: NumPy alone, so that any interpreter with it can run the host.

A gripper over a plane is moved by actions; the picture shows it as a red dot and its target as a
green one. An episode may ask it to die or to hang at a step, once or always.
"""

import os
import time
from pathlib import Path

import numpy as np

HEIGHT, WIDTH = 48, 64
NEAR = 0.02


class Environment:
    def reset(self, episode):
        self.episode, self.steps = episode, 0
        self.at, self.opening = np.zeros(6), 1.0
        self.target = np.array(episode["target"])
        return self._observe(True)

    def step(self, action, render):
        self.steps += 1
        if self.steps == self.episode.get("fails_at"):
            self._fail()
        self.at = self.at + action[:6].astype(np.float64)
        self.opening = float(np.clip(self.opening - action[6], 0, 1))
        return self._observe(render)

    def close(self):
        print("the little robot is switched off")

    def _fail(self):
        once = self.episode.get("once")
        if once and Path(once).exists():
            return
        if once:
            Path(once).touch()
        how = self.episode["fails"]
        if how == "raises":
            raise RuntimeError("the little robot is stuck")
        if how == "hangs":
            time.sleep(600)
        os.abort()

    def _observe(self, render):
        late = self.steps >= self.episode.get("next_at", 1000)
        known = {"success": float(np.linalg.norm(self.at[:2] - self.target) < NEAR)}
        return {
            "image": self._draw() if render else None,
            "state": np.append(self.at, self.opening),
            "controller": self.at,
            "environment_state": known,
            "instruction": "close the drawer" if late else "open the drawer",
        }

    def _draw(self):
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        image[..., 2] = self.steps % 256
        for channel, place in enumerate((self.at[:2], self.target)):
            row, column = (np.clip(place + 0.5, 0, 0.999) * (HEIGHT, WIDTH)).astype(int)
            image[row, column, channel] = 255
        return image


class Unbuilt:
    def __init__(self):
        raise FileNotFoundError("no meshes")
