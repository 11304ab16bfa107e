"""The gate of multimodal data: pictures exist, held-out scenes stay out, nothing can be guessed."""

import copy

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dualvla import quality
from dualvla.files import write_json

TRAIN, HELDOUT = 6, 2  # scenes, as in conftest


def talk(scene: int, kind: str, answer: str) -> dict:
    """A LLaVA conversation about a scene."""
    turns = [
        {"from": "human", "value": "<image>\nwhat is this?"},
        {"from": "gpt", "value": answer},
    ]
    name = f"scene-{scene}"
    return {
        "id": f"{name}-{kind}",
        "image": f"{name}.png",
        "scene": name,
        "kind": kind,
        "conversations": turns,
    }


@pytest.fixture
def world(encoded):
    """Clean multimodal data as {split: talks}, labels, pictures."""
    talks = {
        split: [
            talk(scene, kind, {"colour": "orange", "exists": "no" if scene % 2 else "yes"}[kind])
            for scene in scenes
            for kind in ("colour", "exists")
        ]
        for split, scenes in {
            "train": range(TRAIN),
            "heldout": range(TRAIN, TRAIN + HELDOUT),
        }.items()
    }
    labels = pd.DataFrame(
        {
            "image": f"scene-{scene}.png",
            "split": "train" if scene < TRAIN else "heldout",
            "object": thing,
            **dict.fromkeys(("u", "v", "x", "y", "z", "yaw"), 0.3),
            "visible": 1.0,
            "opening": 0.5,
        }
        for scene in range(TRAIN + HELDOUT)
        for thing in ("carrot", "gripper")
    )
    pictures = {f"scene-{scene}.png": encoded(scene) for scene in range(TRAIN + HELDOUT)}
    return {"talks": talks, "labels": labels, "pictures": pictures}


@pytest.fixture
def check(tmp_path, params):
    """Write a world and run the gate on it."""

    def run(world):
        out = tmp_path / "multimodal"
        (out / "images").mkdir(parents=True)
        for split, talks in world["talks"].items():
            write_json(out / f"{split}.json", talks)
        world["labels"].to_parquet(out / "scenes.parquet")
        names, data = zip(*world["pictures"].items(), strict=True)
        shard = pa.table({"name": names, "bytes": data})
        pq.write_table(shard, out / "images/shard-000.parquet")
        quality.gate("multimodal", out, params=params)

    return run


def test_clean_data_pass(world, check):
    check(world)


def test_a_heldout_scene_in_training_is_named(world, check):
    leak = copy.deepcopy(world["talks"]["heldout"][0])
    world["talks"]["train"].append(leak | {"id": "new", "kind": "place"})
    with pytest.raises(quality.QualityError, match=r"scene-6: splits is 2 .*held-out scene"):
        check(world)


def test_a_heldout_scene_with_training_labels_is_named(world, check):
    world["labels"].loc[world["labels"]["image"] == "scene-6.png", "split"] = "train"
    with pytest.raises(quality.QualityError, match=r"scene-6\.png carrot: split_agrees"):
        check(world)


def test_a_question_without_its_picture_is_named(world, check):
    world["talks"]["train"][3]["image"] = "nowhere.png"
    with pytest.raises(quality.QualityError, match=r"train, scene-1-exists: image_exists"):
        check(world)


@pytest.mark.parametrize("answer", ["", "word " * 40])
def test_an_answer_of_a_wrong_length_is_named(world, check, answer):
    world["talks"]["train"][2]["conversations"][1]["value"] = answer
    with pytest.raises(quality.QualityError, match=r"train, scene-1-colour: answer_words"):
        check(world)


def test_answers_that_can_be_guessed_are_refused(world, check):
    for scene in range(TRAIN):
        for n in range(5):
            entry = talk(scene, "exists", "yes") | {"id": f"{scene}-{n}"}
            world["talks"]["train"].append(entry)
    with pytest.raises(quality.QualityError, match=r"dominance.*exists"):
        check(world)


def test_a_label_out_of_range_is_named(world, check):
    world["labels"].loc[4, "u"] = 1.7
    with pytest.raises(quality.QualityError, match=r"scene-2\.png carrot: u_seen is 1\.7"):
        check(world)


def test_a_hidden_thing_needs_no_place(world, check):
    world["labels"].loc[4, ["u", "visible"]] = [float("nan"), 0.0]
    check(world)


def test_a_damaged_picture_is_named(world, check):
    world["pictures"]["scene-3.png"] = b"\x89PNG damaged"
    with pytest.raises(quality.QualityError, match=r"scene-3\.png: decoded is 0"):
        check(world)
