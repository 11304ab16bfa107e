"""Every training stage on tiny data without a simulator, killed, resumed and fed bad input."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simulated_episodes
import tiny_multimodal
import torch
import yaml
from safetensors.torch import load_file, save_file

from dualvla import config, files
from dualvla.data import conversations, lerobot
from dualvla.data import mixture as mixtures
from dualvla.models import policy
from dualvla.stages import annotate
from dualvla.training import loop

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
SMALL = {
    "steps": 12,
    "batch_size": 8,
    "checkpoint_every": 2,
}
PATCH = {
    "simulation": {"image_size": 32},
    "model": {"width": 32, "layers": 1, "heads": 2, "expert_width": 32, "expert_layers": 1},
    "base_vlm": SMALL | {"vision_steps": 4},
    "specialist": SMALL | {"steps": 60},
    "generalist": SMALL,
    "distill": SMALL,
    "mix": {"heldout_share": 0.3},
}


def stage(folder: Path, name: str, *more: str) -> subprocess.CompletedProcess[str]:
    return python(folder, "-m", f"dualvla.stages.{name}", *more)


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def run(folder: Path, name: str, *more: str) -> None:
    done = stage(folder, name, *more)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def verdicts(folder: Path) -> None:
    """Verdicts that keep every third frame; pruning itself has tests of its own."""
    mixture = pd.read_parquet(folder / "data/mixture/mixture.parquet")
    robot = mixture[mixture["domain"] == "robot"]
    key = robot[["dataset", "episode_index", "frame_index"]].reset_index(drop=True)
    kept = key["frame_index"] % 3 == 0
    scores = {"scene_score": 0.5, "scene": kept, "action_score": 1.5, "action": kept, "keep": kept}
    (folder / "data/pruned").mkdir()
    table = key.assign(task="put carrot on plate", **scores)
    table.to_parquet(folder / "data/pruned/verdicts.parquet")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workspace with base model, specialist, mixture and verdicts."""
    folder = tmp_path_factory.mktemp("workspace")
    merged = config.merge(config.read_yaml(REPOSITORY / "params.yaml"), PATCH)
    (folder / "params.yaml").write_text(yaml.safe_dump(merged))
    simulated_episodes.write(folder / "data/demonstrations", size=32)
    tiny_multimodal.write(folder / "data/multimodal")
    source = lerobot.open_dataset(folder / "data/demonstrations")
    annotate.write(source, folder / "data/annotated", config.load(folder / "params.yaml"))
    for name in ("base_vlm", "specialist"):
        run(folder, name)
    mixture(folder)
    verdicts(folder)
    return folder


def mixture(folder: Path) -> None:
    """The mixture without its gate, which wants more data than a test has."""
    params = config.load(folder / "params.yaml")
    asked = {s: conversations.load(folder / "data/multimodal", s) for s in ("train", "heldout")}
    dataset = lerobot.open_dataset(folder / "data/annotated")
    table = mixtures.build(dataset, asked, params.mix, params.seed)
    (folder / "data/mixture").mkdir()
    table.to_parquet(folder / "data/mixture/mixture.parquet")


def test_generalist_and_distillation_train_and_answer(trained):
    run(trained, "generalist")
    run(trained, "distill", "--arm", "dualvla")
    metrics = files.read_json(trained / "models/dualvla/metrics.json")
    assert {"flow", "language", "kd_velocity", "kd_latent", "kd_language"} <= set(
        metrics["heldout"]
    )
    # Halves, as one batch's loss says little; twelve steps more of a trained model are all noise.
    for name in ("specialist", "generalist"):
        curve = files.read_json(trained / "models" / name / "metrics.json")["curve"]
        early, late = np.array_split([point["loss"] for point in curve], 2)
        assert late.mean() < early.mean(), name
    assert [p["step"] for p in metrics["conflict"]] == list(range(0, 12, 2))
    assert all(-1 <= p["cosine"] <= 1 for p in metrics["conflict"])
    assert not files.read_json(trained / "models/specialist/metrics.json")["conflict"]
    for model in ("specialist", "dualvla"):
        run(trained, "diagnose", "--model", model)
    summary = files.read_json(trained / "results/diagnose/dualvla/summary.json")
    assert all(error["n"] == summary["frames"] for error in summary["errors"]["all"].values())
    assert summary["kept"]["free_form"]["rate"] == 1.0
    assert 0 < summary["kept"]["plain"]["rate"] < 1


def distilled(folder: Path) -> str:
    run(folder, "distill", "--arm", "dualvla")
    return files.sha256(folder / "models/dualvla/model.safetensors")


def test_a_warm_cache_changes_no_bit_and_serves_the_other_arms(with_generalist):
    folder = with_generalist
    shutil.rmtree(folder / ".cache/teachers", ignore_errors=True)
    cold = distilled(folder)
    shards = {p: p.stat().st_mtime_ns for p in (folder / ".cache/teachers").rglob("*.safetensors")}
    assert distilled(folder) == cold
    run(folder, "distill", "--arm", "no_reasoning_teacher")
    assert {p: p.stat().st_mtime_ns for p in shards} == shards
    assert set((folder / ".cache/teachers").rglob("*.safetensors")) == set(shards)


def test_teachers_asked_on_the_fly_teach_the_same(with_generalist):
    distilled(with_generalist)
    looked_up = files.read_json(with_generalist / "models/dualvla/metrics.json")
    patched(with_generalist, {"distill": {"cache": False}})
    shutil.rmtree(with_generalist / ".cache/teachers")
    distilled(with_generalist)
    assert not (with_generalist / ".cache/teachers").exists()
    asked = files.read_json(with_generalist / "models/dualvla/metrics.json")
    rounding = 1e-3 if loop.precision() == "no" else 4 * torch.finfo(torch.bfloat16).eps
    for one, other in zip(looked_up["curve"], asked["curve"], strict=True):
        assert one == pytest.approx(other, rel=rounding)


# The stage, killed as soon as it has written its resume point of step 6.
KILLED = """
    import os, signal
    from dualvla.stages import runner, specialist
    from dualvla.training import checkpoints

    save = checkpoints.save

    def saved_and_killed(where, model, optimizer, state):
        save(where, model, optimizer, state)
        if state["step"] == 6:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.save = saved_and_killed
    runner.run(specialist.main)
"""


def test_a_killed_specialist_ends_with_the_same_weights(trained, tmp_path):
    whole = files.sha256(trained / "models/specialist/model.safetensors")
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    shutil.rmtree(copy / "models/specialist")
    shutil.rmtree(copy / ".cache/checkpoints/specialist", ignore_errors=True)
    killed = python(copy, "-c", textwrap.dedent(KILLED))
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-4000:]
    assert not (copy / "models/specialist").exists()
    resumed = stage(copy, "specialist")
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed at step 6 of" in resumed.stdout
    assert files.sha256(copy / "models/specialist/model.safetensors") == whole


def test_a_finished_stage_trains_anew_when_it_is_run_again(trained):
    whole = files.sha256(trained / "models/specialist/model.safetensors")
    again = stage(trained, "specialist")
    assert again.returncode == 0, again.stderr
    assert "resumed" not in again.stdout
    assert "specialist: 60/60" in again.stdout
    assert files.sha256(trained / "models/specialist/model.safetensors") == whole


def refused(folder: Path, says: str, name: str, *more: str) -> None:
    before = sorted(folder.rglob("*"))
    answer = stage(folder, name, *more)
    assert answer.returncode == 2, answer.stderr
    assert says in answer.stderr.splitlines()[-1]
    assert "Traceback" not in answer.stderr
    assert sorted(folder.rglob("*")) == before


def edited(folder: Path, name: str, frame: int, value: object) -> None:
    path = folder / "data/demonstrations/data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    rows = table[name].to_pylist()
    rows[frame] = value
    at = table.schema.get_field_index(name)
    column = pa.array(rows, table.schema.field(name).type)
    pq.write_table(table.set_column(at, table.schema.field(name), column), path)


@pytest.fixture
def workspace(trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy, ignore=shutil.ignore_patterns("features", "checkpoints"))
    return copy


def test_an_episode_with_nan_is_refused(workspace):
    edited(workspace, "action", 3, [float("nan")] * 7)
    refused(workspace, "episode 0, frame 3: action is not finite", "specialist")


def test_actions_of_another_dimension_are_refused(workspace):
    info = workspace / "data/demonstrations/meta/info.json"
    data = files.read_json(info)
    data["features"]["action"]["shape"] = [8]
    files.write_json(info, data)
    refused(workspace, "not 7", "specialist")


def test_a_checkpoint_of_another_shape_is_refused(workspace):
    params = config.merge(config.read_yaml(workspace / "params.yaml"), {"model": {"queries": 3}})
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    refused(workspace, "model.queries is 4 in the checkpoint, 3 in the parameters", "generalist")


def test_a_truncated_checkpoint_is_refused(workspace):
    weights = workspace / "models/specialist/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])
    refused(workspace, "damaged weights", "generalist")


def test_an_unknown_arm_is_refused(workspace):
    refused(workspace, "no arm nobody", "distill", "--arm", "nobody")


def patched(folder: Path, patch: dict) -> None:
    params = config.merge(config.read_yaml(folder / "params.yaml"), patch)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


@pytest.fixture
def with_generalist(workspace):
    """A workspace whose generalist is the specialist: distillation needs no better one."""
    shutil.rmtree(workspace / "models/generalist", ignore_errors=True)
    shutil.copytree(workspace / "models/specialist", workspace / "models/generalist")
    return workspace


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("models/specialist", "specialist"),
        ("models/generalist", "generalist"),
        ("data/mixture", "mix"),
        ("data/pruned", "prune"),
    ],
)
def test_an_arm_names_the_stage_that_has_not_run(with_generalist, name, needs):
    shutil.rmtree(with_generalist / name)
    says = f"{name}: arm dualvla needs the stage {needs}, which has not run"
    refused(with_generalist, says, "distill", "--arm", "dualvla")


def test_an_arm_needs_only_what_it_reads(with_generalist):
    shutil.rmtree(with_generalist / "data/pruned")
    shutil.rmtree(with_generalist / "models/generalist")
    run(with_generalist, "distill", "--arm", "specialist_ft")
    assert (with_generalist / "models/specialist_ft").is_dir()


def judged(folder: Path, keep: float) -> None:
    path = folder / "data/pruned/verdicts.parquet"
    table = pd.read_parquet(path)
    table["keep"] = table["frame_index"] < keep * 10
    table.to_parquet(path)


@pytest.mark.parametrize("keep", [0, 9999])
def test_a_retention_outside_its_gate_is_refused(with_generalist, keep):
    judged(with_generalist, keep)
    says = "of frames keep their reasoning, allowed are 2.0% to 80.0%"
    refused(with_generalist, says, "distill", "--arm", "dualvla")


def test_an_arm_that_would_read_no_reasoning_is_refused(with_generalist):
    judged(with_generalist, 0)
    patched(with_generalist, {"prune": {"min_retention": 0.0, "keep_free_form": False}})
    says = "arm dualvla: no robot frame for training keeps its reasoning"
    refused(with_generalist, says, "distill", "--arm", "dualvla")


def test_action_tokens_of_a_flow_are_refused(with_generalist):
    patched(with_generalist, {"distill": {"targets": {"token_kl": 1.0}}})
    refused(with_generalist, "token_kl compares action tokens", "distill", "--arm", "dualvla")


def test_a_teacher_of_other_actions_is_refused(with_generalist):
    path = with_generalist / "models/specialist/config.json"
    data = files.read_json(path)
    data["statistics"]["max_translation"] *= 2
    files.write_json(path, data)
    says = "models/specialist: action statistics max_translation of the teacher is"
    refused(with_generalist, says, "distill", "--arm", "dualvla")
    refused(with_generalist, says, "distill", "--arm", "no_reasoning_teacher")


def test_answers_of_another_teacher_are_refused(with_generalist):
    distilled(with_generalist)
    shutil.rmtree(with_generalist / "models/dualvla")
    for path in (with_generalist / ".cache/teachers").rglob("*.safetensors"):
        save_file(load_file(path), path, metadata={"teacher": "another"})
    refused(with_generalist, "these answers are another teacher's", "distill", "--arm", "dualvla")


def trained_in(folder: Path, run_name: str, model: str) -> dict:
    """What a run's model says of its making."""
    where = folder / "ablation/models" / run_name / model
    return files.read_json(where / "metrics.json") | files.read_json(where / "params.json")


def test_a_run_of_the_ablation_with_the_main_seed_and_budget_is_the_main_run(trained):
    run(trained, "generalist")
    run(trained, "generalist", "--run", "short-0")
    name = "generalist/model.safetensors"
    again = files.sha256(trained / "ablation/models/short-0" / name)
    assert again == files.sha256(trained / "models" / name)


def test_arms_of_a_run_start_where_they_should_and_end_at_equal_steps(trained):
    run(trained, "generalist", "--run", "long-1")
    for arm in ("base_ft", "specialist_ft", "qa_only"):
        run(trained, "distill", "--arm", arm, "--run", "long-1")
    made = {name: trained_in(trained, "long-1", name) for name in ("generalist", "base_ft")}
    controls = {name: trained_in(trained, "long-1", name) for name in ("specialist_ft", "qa_only")}
    total = made["generalist"]["steps"] + made["base_ft"]["steps"]
    assert total == 3 * 2 * SMALL["steps"]
    assert {control["steps"] for control in controls.values()} == {total}
    assert {one["seed"] for one in (made | controls).values()} == {1}
    assert made["base_ft"]["text_share"] > 0
    assert {control["text_share"] for control in controls.values()} == {0}
    # Only questions carry a language loss without text, and specialist_ft has none of them.
    assert controls["specialist_ft"]["heldout"]["language"] == 0
    assert controls["qa_only"]["heldout"]["language"] > 0


def test_two_streams_start_from_specialist_and_base_model_and_are_calibrated(trained):
    run(trained, "distill", "--arm", "decoupled")
    model = policy.load(trained / "models/decoupled")
    assert model.config.streams
    assert model.config.reasons
    assert len(model.config.commands) > 0
    made = files.read_json(trained / "models/decoupled/metrics.json")
    assert made["steps"] == 2 * SMALL["steps"]
    assert {"kd_velocity", "kd_language"} <= made["heldout"].keys()


def test_an_unknown_run_is_refused(workspace):
    refused(workspace, "no run tall-0", "generalist", "--run", "tall-0")
