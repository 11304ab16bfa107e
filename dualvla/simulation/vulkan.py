"""Vulkan probe: render one real frame and step physics once, in a process that may crash.

A missing or too old driver does not raise in SAPIEN, it can abort the process. The probe therefore
runs as `python -m dualvla.simulation.vulkan`, and `require` starts that as a child: one second at
the start of a stage, against a crash in the middle of one.
"""

import os
import subprocess
import sys

from dualvla.errors import UserError

ADVICE = (
    "run infra/vulkan.sh, or install a GPU driver, or Mesa 24 or newer "
    "(Debian 12: apt-get install -t bookworm-backports mesa-vulkan-drivers; "
    "also libvulkan1 libegl1 libgl1)"
)


def render_one_frame() -> tuple[str, float]:
    """Render a lit box from above and step physics once.

    Returns:
        The device's name and the mean brightness of the frame in [0, 1], which is above 0.

    Raises:
        RuntimeError: SAPIEN finds no usable device, or the frame is black.
    """
    import numpy as np
    import sapien

    scene = sapien.Scene()
    scene.set_ambient_light([0.5, 0.5, 0.5])
    builder = scene.create_actor_builder()
    builder.add_box_collision(half_size=[0.1, 0.1, 0.1])
    builder.add_box_visual(half_size=[0.1, 0.1, 0.1])
    builder.build(name="box")
    camera = scene.add_camera("camera", 32, 32, fovy=1.0, near=0.01, far=10)
    camera.set_entity_pose(sapien.Pose([-0.5, 0, 0]))
    scene.step()
    scene.update_render()
    camera.take_picture()
    brightness = float(np.asarray(camera.get_picture("Color"))[..., :3].mean())
    if not brightness > 0:
        raise RuntimeError("the rendered frame is black")
    return scene.render_system.device.name, brightness


def require(timeout: float = 300.0) -> str:
    """Check that this machine renders; return the device's name.

    Raises:
        UserError: no usable Vulkan device, with what to install.
    """
    child = [sys.executable, "-m", "dualvla.simulation.vulkan"]
    try:
        result = subprocess.run(
            child, capture_output=True, text=True, timeout=timeout, env=os.environ, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"the Vulkan probe did not end in {timeout:.0f} s", fix=ADVICE) from error
    if result.returncode != 0:
        lines = (result.stderr or result.stdout).strip().splitlines()
        reason = lines[-1] if lines else f"exit code {result.returncode}"
        raise UserError(f"no usable Vulkan device ({reason})", fix=ADVICE)
    return result.stdout.strip()


if __name__ == "__main__":
    sys.stdout.write(render_one_frame()[0] + "\n")
