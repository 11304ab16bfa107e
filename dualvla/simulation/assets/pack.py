"""Asset packs: where the simulator finds robot, objects, stages and backdrops.

Two packs, one layout (`$MS_ASSET_DIR/data`, as ManiSkill 3.0.1 wants it). `official` is what
ManiSkill's own downloader fetches. `generated` is written by this package and kept in a cache
folder named after a hash of the package's source: a changed shape makes a new folder, and two
versions never mix. Many worker processes may ask for it at once, so a pack is built beside its
place and renamed; whoever comes second throws its copy away.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Literal

from dualvla.errors import UserError
from dualvla.files import write_json, write_text

Pack = Literal["generated", "official"]

ROBOT = Path("data/robots/widowx")
BRIDGE = Path("data/tasks/bridge_v2_real2sim_dataset")
MARK = "generated-by-dualvla.json"
STAGES = ("bridge_table_1_v1.glb", "bridge_table_1_v2.glb")
BACKDROPS = ("bridge_real_eval_1.png", "bridge_sink.png")
INFOS = ("info_bridge_custom_v0.json", "info_bridge_custom_baked_tex_v0.json")
MODELS = (
    "baked_green_cube_3cm",
    "baked_yellow_cube_3cm",
    "bridge_carrot_generated_modified",
    "bridge_plate_objaverse_larger",
    "bridge_spoon_generated_modified",
    "dummy_sink_target_plane",
    "eggplant",
    "sink",
    "table_cloth_generated_shorter",
)
LOOKS = ("textured.obj", "textured.dae", "textured.glb")  # any of them, as the tasks look for them
DOWNLOAD = (
    "set MS_ASSET_DIR to the folder that holds data/, or run `python -m "
    "mani_skill.utils.download_asset bridge_v2_real2sim` and the same with `widowx250s`, "
    "or choose simulation.assets: generated"
)


def activate(pack: Pack) -> Path:
    """Point ManiSkill at an asset pack; call before `mani_skill` is imported.

    Builds the generated pack if its cache folder is not there. Sets `MS_ASSET_DIR` and
    `MS_SKIP_ASSET_DOWNLOAD_PROMPT` in this process and those it starts.

    Returns:
        The root, which holds `data/`.

    Raises:
        UserError: the pack is missing or incomplete, or `mani_skill` was imported with another.
    """
    root = generated() if pack == "generated" else official()
    check(root, pack)
    loaded = sys.modules.get("mani_skill")
    if loaded is not None and Path(loaded.ASSET_DIR).resolve() != (root / "data").resolve():
        what = f"mani_skill was already imported with the assets in {loaded.ASSET_DIR}"
        raise UserError(what, where=str(root), fix="use one asset pack a process")
    os.environ["MS_ASSET_DIR"] = str(root)
    os.environ["MS_SKIP_ASSET_DOWNLOAD_PROMPT"] = "1"
    return root


def official() -> Path:
    """Root of the official pack: `MS_ASSET_DIR`, or ManiSkill's default folder.

    An `MS_ASSET_DIR` that points at a generated pack was set by `activate` and does not count.
    """
    named = os.environ.get("MS_ASSET_DIR")
    if named and not (Path(named) / MARK).exists():
        return Path(named).expanduser().absolute()
    return Path.home() / ".maniskill"


def generated() -> Path:
    """Root of the generated pack; builds it on the first call for this version."""
    folder = Path(os.environ.get("DUALVLA_CACHE", ".cache")).absolute() / "assets"
    root = folder / version()
    if root.exists():
        return root
    folder.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{root.name}.", suffix=".part", dir=folder))
    try:
        build(beside)
        beside.chmod(0o755)
        try:
            beside.rename(root)
        except OSError:
            if not root.exists():  # else another process was faster, with the same bytes
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return root


@cache
def version() -> str:
    """Sixteen hexadecimal digits that change with any source file of this package."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def build(root: Path) -> None:
    """Write the generated pack into an empty folder; the same bytes every time."""
    from PIL import Image

    from dualvla.simulation.assets import backdrop, objects, robot, stage
    from dualvla.simulation.assets.solids import materials, wavefront

    arm = root / ROBOT
    write_text(arm / f"{robot.NAME}.urdf", robot.urdf())
    write_text(arm / f"{robot.NAME}.srdf", robot.srdf())
    for link in robot.links():
        if link.visual:
            mesh = arm / robot.MESHES / f"{link.name}.obj"
            write_text(mesh, wavefront(link.visual, f"{link.name}.mtl"))
            write_text(mesh.with_suffix(".mtl"), materials(link.visual))
    infos: dict[str, dict[str, object]] = {name: {} for name in INFOS}
    for name, model in objects.build().items():
        folder = root / BRIDGE / "custom/models" / name
        write_text(folder / "textured.obj", wavefront(model.visual, "textured.mtl"))
        write_text(folder / "textured.mtl", materials(model.visual))
        write_text(folder / "collision.obj", wavefront(model.collision, None))
        low, high = model.bbox
        facts = {"bbox": {"min": low, "max": high}, "density": model.density, "scales": [1.0]}
        infos[model.info][name] = facts
    for name, info in infos.items():
        write_json(root / BRIDGE / "custom" / name, info)
    for name in STAGES:
        path = root / BRIDGE / "stages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stage.glb())
    pictures = (backdrop.table(), backdrop.kitchen())
    for name, picture in zip(BACKDROPS, pictures, strict=True):
        path = root / BRIDGE / "real_inpainting" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    write_json(root / MARK, {"version": version(), "license": "Apache-2.0"})


def check(root: Path, pack: Pack) -> None:
    """Raise a `UserError` that names the first file a pack lacks."""
    missing = next((name for name in _needed() if not (root / name).is_file()), None)
    if missing is None:
        bare = (name for name in MODELS if not _has_looks(root, name))
        missing = next((BRIDGE / "custom/models" / name / LOOKS[0] for name in bare), None)
    if missing is None:
        return
    fix = DOWNLOAD
    if pack == "generated":
        fix = f"delete {root} and run `python -m dualvla.simulation.assets`"
    raise UserError(f"the {pack} asset pack lacks {missing}", where=str(root), fix=fix)


def _needed() -> list[Path]:
    models = [BRIDGE / "custom/models" / name / "collision.obj" for name in MODELS]
    return [
        ROBOT / "wx250s.urdf",
        ROBOT / "wx250s.srdf",
        *(BRIDGE / "custom" / name for name in INFOS),
        *models,
        *(BRIDGE / "stages" / name for name in STAGES),
        *(BRIDGE / "real_inpainting" / name for name in BACKDROPS),
    ]


def _has_looks(root: Path, model: str) -> bool:
    folder = root / BRIDGE / "custom/models" / model
    return any((folder / name).is_file() for name in LOOKS)
