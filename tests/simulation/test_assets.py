import json
import os
import shutil
import struct
import subprocess
import sys
import types
import xml.etree.ElementTree as ET
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial import ConvexHull

from dualvla.errors import UserError
from dualvla.files import sha256
from dualvla.objects import OBJECTS
from dualvla.simulation.assets import activate, backdrop, check, objects, pack, robot, sink, stage
from dualvla.simulation.assets.solids import COLOURS, bounds, box, ellipse, loft, wavefront

MODELS = objects.build()
# Extents in metres of the benchmark's own collision meshes.
EXTENTS = {
    "bridge_carrot_generated_modified": (0.118, 0.032, 0.041),
    "bridge_plate_objaverse_larger": (0.110, 0.110, 0.006),
    "bridge_spoon_generated_modified": (0.141, 0.036, 0.027),
    "table_cloth_generated_shorter": (0.100, 0.100, 0.011),
    "baked_green_cube_3cm": (0.030, 0.030, 0.030),
    "baked_yellow_cube_3cm": (0.030, 0.030, 0.030),
    "eggplant": (0.079, 0.037, 0.038),
    "dummy_sink_target_plane": (0.130, 0.080, 0.002),
    "sink": (0.276, 0.399, 0.119),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("pack")
    pack.build(root)
    return root


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """An environment without a chosen pack, and a cache of its own."""
    for name in ("MS_ASSET_DIR", "MS_SKIP_ASSET_DOWNLOAD_PROMPT"):
        monkeypatch.setenv(name, "")  # so that both are restored afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("DUALVLA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delitem(sys.modules, "mani_skill", raising=False)
    return tmp_path


@pytest.fixture
def cached(clean, built):
    """The same with the generated pack already in the cache."""
    shutil.copytree(built, clean / "cache/assets" / pack.version())
    return clean


def every_solid():
    for name, model in MODELS.items():
        for kind, solids in (("visual", model.visual), ("collision", model.collision)):
            for number, solid in enumerate(solids):
                yield pytest.param(solid, kind, id=f"{name}-{kind}-{number}")
    for link in robot.links():
        for number, solid in enumerate(link.visual):
            yield pytest.param(solid, "visual", id=f"{link.name}-{number}")


@pytest.mark.parametrize(("solid", "kind"), every_solid())
def test_solids_are_closed_wound_outwards_and_convex_where_physics_needs_it(solid, kind):
    edges = [(int(f[k]), int(f[(k + 1) % 3])) for f in solid.faces for k in range(3)]
    counts = Counter(edges)
    assert all(counts[(b, a)] == n == 1 for (a, b), n in counts.items())
    assert solid.volume() > 0
    assert solid.colour in COLOURS
    if kind == "collision":
        assert solid.volume() > 0.93 * ConvexHull(solid.vertices).volume


def test_no_two_collision_parts_share_a_corner():
    # The loader joins parts that do, and takes the hull of both.
    for name, model in MODELS.items():
        corners = Counter()
        for solid in model.collision:
            corners.update({tuple(v) for v in np.round(solid.vertices, 6).tolist()})
        assert max(corners.values()) == 1, name


def test_models_are_as_large_as_the_benchmarks():
    assert set(MODELS) == set(EXTENTS) == set(pack.MODELS)
    assert {thing.model for thing in OBJECTS} <= set(MODELS)
    for name, extent in EXTENTS.items():
        low, high = bounds(MODELS[name].collision)
        np.testing.assert_allclose(high - low, extent, atol=0.0055, err_msg=name)


def test_eggplant_can_lie_on_the_target_plane_in_the_basket():
    (x0, y0), (x1, y1) = sink.BASKET
    centre = np.array([-0.125, 0.025]) - backdrop.SINK_AT[:2]  # where the task drops the plane
    low, high = bounds(MODELS["dummy_sink_target_plane"].collision)
    assert np.all(centre + low[:2] > (x0, y0))
    assert np.all(centre + high[:2] < (x1, y1))
    for solid in sink.collision():  # nothing above it
        low, high = bounds([solid])
        above = np.all(low[:2] < (x1 - 1e-6, y1 - 1e-6)) and np.all(
            high[:2] > (x0 + 1e-6, y0 + 1e-6)
        )
        assert not above or high[2] <= sink.BASKET_FLOOR + 1e-9


def test_arm_has_the_links_the_agent_asks_for_and_its_finger_tips_where_they_belong():
    tree = ET.fromstring(robot.urdf())
    links = {link.get("name") for link in tree.iter("link")}
    assert {"base_link", "left_finger_link", "right_finger_link", "ee_gripper_link"} <= links
    place = {"base_link": np.zeros(3)}
    for joint in robot.JOINTS:
        place[joint.child] = place[joint.parent] + joint.xyz
    assert set(place) == links
    by_name = {link.name: link for link in robot.links()}
    for name in ("left_finger_link", "right_finger_link"):
        tip = place[name][0] + max(high[0] for _, high in by_name[name].collision)
        assert tip - place["ee_gripper_link"][0] == pytest.approx(0.0156, abs=2e-4)
    for pair in robot.APART:
        assert set(pair) <= links


def test_gripper_opens_wider_and_closes_narrower_than_everything_it_grasps():
    left, right = (robot._finger(left=side).collision for side in (True, False))
    for joint, compare in ((0.037, np.less), (0.015, np.greater)):
        gap = min(low[1] for low, _ in left) - max(high[1] for _, high in right) + 2 * joint
        for name in ("bridge_carrot_generated_modified", "baked_green_cube_3cm", "eggplant"):
            low, high = bounds(MODELS[name].collision)
            assert compare(high[1] - low[1], gap)


@given(st.lists(st.floats(0.001, 1.0), min_size=3, max_size=3), st.integers(1, 8))
def test_volume_of_a_box_and_of_a_tube(size, quarter):
    assert box((0, 0, 0), size).volume() == pytest.approx(np.prod(size))
    rings = [ellipse(x, size[0], size[1], sides=4 * quarter) for x in (0.0, size[2])]
    tube = loft(rings)
    low, high = bounds([tube])
    assert high[2] - low[2] == pytest.approx(2 * size[1])  # flat edges below and above
    assert tube.volume() >= np.pi * size[0] * size[1] * size[2] * 0.999


def test_obj_text_numbers_its_vertices_from_one():
    cube = box((0, 0, 0), (1, 1, 1))
    lines = wavefront([cube, cube.moved((2, 0, 0))], "a.mtl").splitlines()
    used = [
        int(mark.split("//")[0]) for line in lines if line[0] == "f" for mark in line.split()[1:]
    ]
    assert sorted(set(used)) == list(range(1, 17))


def test_pack_is_complete_and_the_same_bytes_every_time(built, tmp_path):
    check(built, "generated")
    pack.build(tmp_path / "again")
    assert sha256(built) == sha256(tmp_path / "again")


def test_task_files_list_every_model_with_the_keys_the_tasks_read(built):
    folder = built / pack.BRIDGE / "custom"
    infos = [json.loads((folder / name).read_text()) for name in pack.INFOS]
    facts = {name: entry for info in infos for name, entry in info.items()}
    assert set(facts) == set(pack.MODELS)
    for entry in facts.values():
        assert set(entry) == {"bbox", "density", "scales"}


def test_table_top_is_where_the_tasks_expect_it():
    data = stage.glb()
    length = struct.unpack("<I", data[12:16])[0]
    tree = json.loads(data[20 : 20 + length])
    low, high = (np.array(tree["accessors"][0][key]) for key in ("min", "max"))
    assert high[1] == pytest.approx(0.8695, abs=1e-6)  # y is up
    x, y = -0.16 - stage.SHIFT[0], 0.0 - stage.SHIFT[1]  # the middle of the workspace
    assert low[0] < x < high[0]
    assert low[2] < -y < high[2]
    assert len(data) == struct.unpack("<I", data[8:12])[0]


def test_backdrops_show_table_and_sink(built):
    folder = built / pack.BRIDGE / "real_inpainting"
    table, kitchen = (np.asarray(Image.open(folder / name)) for name in pack.BACKDROPS)
    assert table.shape == kitchen.shape == (480, 640, 3)
    red, green, blue = table[240, 320].astype(int)
    assert red > green > blue  # wood
    red, green, blue = kitchen[330, 390].astype(int)
    assert blue > red  # the basin
    assert np.all(table.reshape(-1, 3).max(axis=1) > 0)  # no ray missed everything
    assert np.all(kitchen.reshape(-1, 3).max(axis=1) > 0)


def test_activate_builds_once_and_points_maniskill_at_the_pack(clean):
    root = activate("generated")
    assert root == clean / "cache/assets" / pack.version()
    assert os.environ["MS_ASSET_DIR"] == str(root)
    assert os.environ["MS_SKIP_ASSET_DOWNLOAD_PROMPT"] == "1"
    before = (root / pack.MARK).stat().st_mtime_ns
    assert activate("generated") == root
    assert (root / pack.MARK).stat().st_mtime_ns == before
    assert [p.name for p in root.parent.iterdir()] == [root.name]


def test_processes_that_build_at_once_leave_one_pack(clean):
    command = [sys.executable, "-m", "dualvla.simulation.assets"]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    roots = [child.communicate(timeout=120)[0].strip() for child in children]
    assert roots[0] == roots[1]
    assert [p.name for p in (clean / "cache/assets").iterdir()] == [pack.version()]


def test_incomplete_pack_is_one_error_that_names_the_file(cached):
    root = activate("generated")
    lost = pack.BRIDGE / "custom/models/eggplant/collision.obj"
    (root / lost).unlink()
    with pytest.raises(UserError, match=str(lost)) as error:
        activate("generated")
    assert str(root) in error.value.fix
    (root / lost).write_text("")
    (root / lost.with_name("textured.obj")).unlink()
    with pytest.raises(UserError, match=r"eggplant/textured\.obj"):
        activate("generated")


def test_missing_official_pack_tells_how_to_get_it(clean):
    with pytest.raises(UserError, match=r"wx250s\.urdf") as error:
        activate("official")
    assert "download_asset bridge_v2_real2sim" in error.value.fix
    assert "MS_ASSET_DIR" not in os.environ


def test_generated_pack_in_the_environment_is_not_taken_for_the_official_one(cached):
    activate("generated")
    with pytest.raises(UserError, match="official"):
        activate("official")


def test_official_pack_comes_from_the_environment(clean, built, monkeypatch):
    copy = clean / "theirs"
    (copy / "data").parent.mkdir()
    (copy / "data").symlink_to(built / "data")
    monkeypatch.setenv("MS_ASSET_DIR", str(copy))
    assert activate("official") == copy


def test_a_second_pack_in_one_process_is_refused(cached, monkeypatch):
    other = types.SimpleNamespace(ASSET_DIR=cached / "elsewhere/data")
    monkeypatch.setitem(sys.modules, "mani_skill", other)
    with pytest.raises(UserError, match="already imported"):
        activate("generated")
    assert "MS_ASSET_DIR" not in os.environ
