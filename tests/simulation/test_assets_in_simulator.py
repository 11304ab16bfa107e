"""The unchanged benchmark tasks on the generated pack. Runs in a child: one pack a process."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.sim, pytest.mark.slow]

SCRIPT = """
import json, sys
from dualvla.simulation.assets import activate
activate("generated")
import gymnasium, numpy as np, torch
import mani_skill.envs
results = {}
for name in sys.argv[1:]:
    task = gymnasium.make(name, obs_mode="rgb+segmentation", render_backend="cpu",
                          sim_backend="cpu", num_envs=1)
    options = {"episode_id": torch.tensor([5]), "reconfigure": True}
    seen, _ = task.reset(options=options)
    scene = task.unwrapped
    camera = seen["sensor_data"]["3rd_view_camera"]
    ids = camera["segmentation"][0, ..., 0].numpy()
    rgb = camera["rgb"][0].numpy()
    things = {}
    for key, thing in scene.objs.items():
        mask = ids == int(thing.per_scene_id[0])
        things[key] = dict(
            z=float(thing.pose.p[0, 2]),
            moved=float(np.linalg.norm((thing.pose.p[0] - asked(scene, key))[:2]))
            if False else 0.0,
            speed=float(torch.linalg.norm(thing.linear_velocity)),
            parts=len(thing._objs[0].find_component_by_type(
                __import__("sapien").physx.PhysxRigidDynamicComponent).collision_shapes),
            pixels=int(mask.sum()),
        )
    fingers = [scene.agent.finger1_link, scene.agent.finger2_link]
    arm = int(sum((ids == int(link.per_scene_id[0])).sum() for link in scene.agent.robot.links))
    sink = None
    if hasattr(scene, "sink"):
        mask = ids == int(scene.sink.per_scene_id[0])
        painted = rgb[mask].astype(int)
        bluish = painted[:, 2] > painted[:, 0]
        yellow = (painted[:, 0] > painted[:, 2] + 40)
        sink = float((bluish | yellow).mean())
    results[name] = dict(things=things, arm=arm, sink=sink)
    task.close()
print("RESULT " + json.dumps(results))
"""
