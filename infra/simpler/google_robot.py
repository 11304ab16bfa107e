"""SimplerEnv's Google-robot tasks, driven as its own evaluator drives them.

Built and reset with the arguments of `simpler_env.evaluation.maniskill2_evaluator`:
the same controller, 3 Hz control on 513 Hz physics, overlay photo and reset options. Two things
differ. A scene is kept for the next episode that needs the same one and rebuilt at its reset, in
place of a new environment an episode. And the seed of an episode is written down: as its code
reads, a new environment draws it from ManiSkill2's fixed one, so all published episodes share it.

The task of put in drawer changes its instruction on the way: after the drawer is to be open, at 100
steps at the latest, by the environment itself.
"""

import json
import os
from pathlib import Path

import numpy as np

CONTROL_HZ = 3
FIRST_SEED = 2022  # ManiSkill2 seeds every new environment with it
EPISODE_SEED = int(np.random.RandomState(FIRST_SEED).randint(2**32))
ASSETS = "MS2_ASSET_DIR"


class Environment:
    """All tasks; one scene at a time, as a scene takes gigabytes with ray tracing."""

    def __init__(self):
        from simpler_env.utils.env import env_builder, observation_utils

        self._build = env_builder.build_maniskill2_env
        self._control_mode = env_builder.get_robot_control_mode
        self._image = observation_utils.get_image_from_maniskill2_obs_dict
        self._scene, self._key = None, ""

    def reset(self, episode):
        """Build the scene unless it is the last one's, place robot and object, and look."""
        key = json.dumps([episode["env"], episode["build"]], sort_keys=True)
        if key != self._key:
            self.close()
            self._scene, self._key = self._make(episode), key
        place = {"init_xy": np.array(episode["robot_xy"])}
        place["init_rot_quat"] = np.array(episode["robot_quaternion"])
        if episode["arrangement"] is None:
            objects = {"init_xy": np.array(episode["object_xy"])}
        else:
            objects = {"episode_id": episode["arrangement"]}
        options = {"robot_init_options": place, "obj_init_options": objects, "reconfigure": True}
        seen, _ = self._scene.reset(seed=EPISODE_SEED, options=options)
        return self._observe(seen, {}, False)

    def step(self, action, render):
        """One control step of 1/3 s; the picture is rendered anyway."""
        seen, _, success, _, info = self._scene.step(np.asarray(action, np.float64))
        return self._observe(seen, info, success)

    def close(self):
        """Release the scene."""
        if self._scene is not None:
            self._scene.close()
        self._scene, self._key = None, ""

    def _make(self, episode):
        arguments = dict(episode["build"])
        if "rgb_overlay_path" in arguments:
            photo = Path(os.environ[ASSETS]) / arguments["rgb_overlay_path"]
            arguments["rgb_overlay_path"] = str(photo)
        return self._build(
            episode["env"],
            obs_mode="rgbd",
            control_mode=self._control_mode(arguments["robot"], "dualvla"),
            control_freq=CONTROL_HZ,
            camera_cfgs={"add_segmentation": True},
            **arguments,
        )

    def _observe(self, seen, info, success):
        agent = self._scene.unwrapped.agent
        base, tcp = agent.robot.pose, self._scene.unwrapped.tcp.pose
        pose = base.inv() * tcp
        controller = np.concatenate([pose.p, _euler_xyz(pose.q)])
        known = {"success": bool(success)}
        if "moved_wrong_obj" in info:
            known["moved_wrong"] = bool(info["moved_wrong_obj"])
        return {
            "image": self._image(self._scene, seen),
            "state": np.append(controller, 1 - float(agent.get_gripper_closedness())),
            # This controller moves from where the gripper is, not from its last target.
            "controller": controller,
            "environment_state": known,
            "instruction": self._scene.unwrapped.get_language_instruction(),
        }


def _euler_xyz(quaternion):
    """Angles of R = Rx(roll) Ry(pitch) Rz(yaw) of a quaternion wxyz."""
    from transforms3d.euler import quat2euler

    return np.array(quat2euler(quaternion, "rxyz"))
