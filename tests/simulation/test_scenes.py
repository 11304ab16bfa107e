from pathlib import Path

import numpy as np
import pytest

from dualvla import config
from dualvla.conventions import ENVIRONMENT_STATE_NAMES
from dualvla.simulation import scenes

pytestmark = [pytest.mark.sim, pytest.mark.slow]
PARAMS = Path(__file__).parents[2] / "params.yaml"


def params(workers: int, size: int = 128) -> config.Params:
    loaded = config.load(PARAMS)
    simulation = loaded.simulation.model_copy(
        update={"assets": "generated", "workers": workers, "image_size": size}
    )
    return loaded.model_copy(update={"simulation": simulation})


@pytest.fixture(scope="module")
def renderer() -> scenes.Renderer:
    return scenes.Renderer(params(1))


def test_labels_point_at_what_they_name(renderer: scenes.Renderer) -> None:
    colours = {"carrot": (0, 2), "eggplant": (2, 1), "green cube": (1, 0), "towel": (2, 0)}
    checked = 0
    for index in range(60):
        scene = renderer.scene("train", index)
        assert scene.image.shape == (128, 128, 3)
        assert scene.labels[-1].object == "gripper"
        assert 0 <= scene.opening <= 1
        for label in scene.labels:
            assert 0 <= label.visible <= 1
            if label.object in colours and label.visible > 0.97 and scene.held is None:
                strong, weak = colours[label.object]
                row, column = int(label.v * 128), int(label.u * 128)
                pixel = scene.image[row, column].astype(int)
                assert pixel[strong] > pixel[weak], (index, label, pixel)
                checked += 1
    assert checked > 10


def test_a_scene_does_not_depend_on_what_came_before(renderer: scenes.Renderer) -> None:
    first = renderer.scene("train", 3)
    renderer.scene("train", 4)
    again = renderer.scene("train", 3)
    assert np.array_equal(first.image, again.image)
    assert first.labels == again.labels
    assert renderer.scene("heldout", 3).labels != first.labels


def test_one_and_two_workers_give_the_same_scenes() -> None:
    wanted: list[tuple[scenes.Split, int]] = [("train", i) for i in range(12)]
    wanted += [("heldout", i) for i in range(4)]
    one = list(scenes.render(params(1, 64), wanted))
    two = list(scenes.render(params(2, 64), wanted))
    assert [scene.name for scene in one] == [scene.name for scene in two]
    for left, right in zip(one, two, strict=True):
        assert left.labels == right.labels
        assert scenes.encode(left.image) == scenes.encode(right.image)


@pytest.mark.parametrize("task", ["carrot", "spoon", "stack", "eggplant"])
def test_a_scene_looks_like_the_task_itself(task: str, renderer: scenes.Renderer) -> None:
    from dualvla.objects import BY_NAME
    from dualvla.simulation import bridge, starts
    from dualvla.simulation.environments import TASKS, Environment
    from dualvla.simulation.grips import Arm
    from dualvla.simulation.layouts import Layout

    environment = Environment(task, "generated", 128)
    seen = environment.reset(starts.fixed(task, "official")[3])
    simulator = environment._scene
    spec = TASKS[task]
    poses = {
        name: bridge.matrix(simulator.objs[BY_NAME[name].model])
        for name in (spec.source, spec.target)
        if name != "basket"
    }
    joints = simulator.agent.robot.qpos[0].cpu().numpy().astype(float)
    setting = "sink" if task == "eggplant" else "table"
    index = next(i for i in range(99) if renderer.scene("train", i).setting == setting)
    studio = renderer._studios[renderer.scene("train", index).setting]
    layout = Layout(poses, Arm(None, None, joints[:6], joints[6]), None, None)
    image, labels, _ = studio.shoot(layout, joints)
    assert seen.image is not None
    assert np.mean(np.any(image != seen.image, axis=-1)) < 0.001
    by_name = {label.object: label for label in labels}
    state = dict(zip(ENVIRONMENT_STATE_NAMES, seen.environment_state, strict=True))
    for role, name in (("source", spec.source), ("target", spec.target), ("gripper", "gripper")):
        for key in ("x", "y", "z", "u", "v"):
            wanted = getattr(by_name[name], key)
            assert state[f"{role}.{key}"] == pytest.approx(wanted, abs=2e-3), (role, key)
    environment.close()
