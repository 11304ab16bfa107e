"""The benchmark's unchanged tasks on the generated pack."""

import numpy as np
import pytest

from dualvla.simulation import starts
from dualvla.simulation.environments import TASKS, Environment, value
from dualvla.simulation.expert import Expert

pytestmark = [pytest.mark.sim, pytest.mark.slow]

# Height of the source's and the target's origin at rest, world metres, and convex parts.
REST = {
    "carrot": ((0.8873, 2), (0.8695, 17)),
    "spoon": ((0.8812, 13), (0.8745, 1)),
    "stack": ((0.8845, 1), (0.8845, 1)),
    "eggplant": ((0.9380, 1), (0.9410, 1)),
}


@pytest.fixture(params=sorted(TASKS))
def environment(request):
    environment = Environment(request.param, "generated", 160)
    yield environment
    environment.close()


def test_objects_lie_still_where_they_belong_and_a_grasp_lifts_them(environment):
    from sapien.physx import PhysxRigidDynamicComponent

    name = environment.spec.name
    start = starts.fixed(name, "official")[7]
    observation = environment.reset(start)
    scene = environment._scene
    for number, thing in enumerate(scene.objs.values()):
        height, parts = REST[name][number]
        place = thing.pose.p[0].numpy()
        assert place[2] == pytest.approx(height, abs=0.0015)
        assert np.linalg.norm(place[:2] - start.positions[number][:2]) < 0.015
        assert float(thing.linear_velocity.norm()) < 0.005
        body = thing._objs[0].find_component_by_type(PhysxRigidDynamicComponent)
        assert len(body.collision_shapes) == parts  # the loader joined none

    expert = Expert("generated")
    expert.reset(0, environment.spec.instruction, seed=0)
    source = next(iter(scene.objs.values()))
    low = float(source.pose.p[0, 2])
    for _ in range(25):
        action = expert.act([0], [observation])[0].actions[0]
        observation = environment.step(action, render=False)
        lifted = float(source.pose.p[0, 2]) - low
        if value(observation, "grasped") > 0.5 and lifted > 0.04:
            return
    pytest.fail("the grasp did not lift the object")


def test_the_painted_sink_covers_the_simulated_one():
    environment = Environment("eggplant", "generated", 160)
    try:
        environment.reset(starts.fixed("eggplant", "official")[0])
        scene = environment._scene
        seen = scene.get_obs()["sensor_data"]["3rd_view_camera"]
        mask = seen["segmentation"][0, ..., 0].numpy() == int(scene.sink.per_scene_id[0])
        red, _, blue = seen["rgb"][0].numpy()[mask].astype(int).T
        light_blue, yellow, navy = blue > red + 10, red > blue + 40, blue < 90
        assert mask.mean() > 0.3
        assert (light_blue | yellow | navy).mean() > 0.93  # the tap is in front of the rest
    finally:
        environment.close()
