from pathlib import Path

import pandas as pd
import pytest
import simulated_episodes as simulated

from dualvla import config, files, paths
from dualvla.data import language, lerobot, rlds
from dualvla.errors import QualityError, UserError
from dualvla.labelling.session import Session
from dualvla.models.features import vision_features
from dualvla.pruning import detector
from dualvla.pruning.prune import COLUMNS
from dualvla.stages import prune

REPOSITORY = Path(__file__).parents[2]
SAMPLE = REPOSITORY.parent / "shared" / "data" / "bridge_rlds_sample"


@pytest.fixture
def params(tmp_path, monkeypatch) -> config.Params:
    monkeypatch.chdir(tmp_path)
    return config.load(REPOSITORY / "params.yaml")


def untrained_base(params):
    """A base VLM as the stage writes it, with the weights it starts from."""
    from dualvla.training import base

    model, processor = base.build(params, language.lexicon())
    folder = paths.model("base_vlm")
    folder.mkdir(parents=True)
    model.save_pretrained(str(folder))
    processor.save(folder)


def test_every_frame_gets_a_verdict_and_the_same_input_gives_the_same_bytes(params):
    simulated.write(paths.ANNOTATED, size=params.simulation.image_size)
    untrained_base(params)
    prune.main(params)
    first = files.sha256(paths.PRUNED)
    prune.main(params)
    assert files.sha256(paths.PRUNED) == first
    table = pd.read_parquet(paths.PRUNED / "verdicts.parquet")
    assert list(table.columns) == COLUMNS
    assert len(table) == lerobot.open_dataset(paths.ANNOTATED).length
    record = files.read_json(paths.PRUNED / "retention.json")
    assert record["keep_free_form"] is params.prune.keep_free_form
    assert record["retention"]["all"]["counts"]["keep"] == table["keep"].sum()
    assert set(record["retention"]["task"]) == set(table["task"])
    assert (paths.PRUNED / "timeline.png").is_file()


def test_retention_out_of_bounds_stops_the_stage_and_leaves_nothing(params):
    simulated.write(paths.ANNOTATED, size=params.simulation.image_size)
    untrained_base(params)
    strict = params.prune.model_copy(update={"min_retention": 0.9, "max_retention": 1.0})
    with pytest.raises(QualityError):
        prune.main(params.model_copy(update={"prune": strict}))
    assert not paths.PRUNED.exists()


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no RLDS sample")
def test_imported_robot_data_is_pruned_like_simulated_data(params):
    rlds.import_rlds(SAMPLE, paths.ANNOTATED)
    untrained_base(params)
    prune.main(change_points(params))
    shares = files.read_json(paths.PRUNED / "retention.json")["retention"]["all"]["shares"]
    assert 0 < shares["keep"] < shares["action"] < 0.6


def learned(params, **update):
    update = {"scene_layer": "learned", "detector_steps": 3, "max_retention": 1.0} | update
    return params.model_copy(update={"prune": params.prune.model_copy(update=update)})


def change_points(params):
    settings = params.prune.model_copy(update={"scene_layer": "change_point"})
    return params.model_copy(update={"prune": settings})


def test_boundaries_of_held_out_episodes_are_scored_where_phases_are_known(params):
    simulated.write(paths.ANNOTATED, size=params.simulation.image_size)
    untrained_base(params)
    prune.main(change_points(params))
    events = files.read_json(paths.PRUNED / "events.json")
    assert events["scene_layer"] == "change_point"
    assert set(events["methods"]) == {"fixed_stride", "change_point"}
    assert events["heldout"] == {"episodes": 1, "frames": 29, "boundaries": 7}
    assert not (paths.PRUNED / "detector").exists()


def test_a_learned_scene_layer_decides_and_gives_the_same_bytes_twice(params):
    simulated.write(paths.ANNOTATED, size=params.simulation.image_size)
    untrained_base(params)
    params = learned(params)
    prune.main(params)
    first = files.sha256(paths.PRUNED)
    prune.main(params)
    assert files.sha256(paths.PRUNED) == first
    events = files.read_json(paths.PRUNED / "events.json")
    assert set(events["methods"]) == {"fixed_stride", "change_point", "learned"}
    (trained_on,) = events["training_episodes"]
    model = detector.load(paths.PRUNED / "detector")
    dataset = lerobot.open_dataset(paths.ANNOTATED)
    features = vision_features(paths.model("base_vlm"), dataset.images())
    rows = dataset.rows(1 - trained_on)
    scores = detector.boundary_scores(model, features[rows.start : rows.stop])
    table = pd.read_parquet(paths.PRUNED / "verdicts.parquet")
    table = table[table["episode_index"] == 1 - trained_on]
    assert (table["scene_score"] == scores.astype("float32")).all()
    found = detector.boundaries(scores, 0, params.prune.detector_threshold)
    assert (table["scene"] == found).all()
    assert events["methods"]["learned"]["found"] == found.sum()


def test_one_labelled_episode_is_trained_on_and_leaves_none_to_score(params):
    simulated.write(paths.ANNOTATED, tasks=("put carrot on plate",), size=128)
    untrained_base(params)
    prune.main(learned(params))
    events = files.read_json(paths.PRUNED / "events.json")
    assert events["heldout"]["episodes"] == 0
    assert events["methods"]["learned"]["f1"] is None


def without_phases(root, episodes=1):
    features = lerobot.robot_features(128, 128)
    with lerobot.Writer(root, 5, "widowx", features, simulated.ABOUT) as writer:
        columns = {k: v for k, v in simulated.columns().items() if k in features}
        for _ in range(episodes):
            writer.add(columns, {lerobot.CAMERA: simulated.pictures(128)}, "put carrot on plate")


def test_a_learned_layer_without_any_phases_is_refused_before_work_starts(params):
    without_phases(paths.ANNOTATED)
    untrained_base(params)
    with pytest.raises(UserError, match=r"annotated.*no episode has phases.*change_point"):
        prune.main(learned(params))
    assert not paths.PRUNED.exists()


def marked(count, frames=(5, 9)):
    """Label the first episodes of data/annotated."""
    session = Session(lerobot.open_dataset(paths.ANNOTATED), paths.LABELS)
    for index in range(count):
        for frame in frames:
            session.toggle(index, frame)
        session.done(index, 0)


def test_people_s_labels_train_the_layer_where_there_are_no_phases(params):
    without_phases(paths.ANNOTATED, episodes=3)
    untrained_base(params)
    marked(2)
    params = learned(params)
    prune.main(params)
    first, events = files.sha256(paths.PRUNED), files.read_json(paths.PRUNED / "events.json")
    assert events["labels"] == "people"
    assert events["heldout"] == {"episodes": 1, "frames": 29, "boundaries": 2}
    assert set(events["methods"]) == {"fixed_stride", "change_point", "learned"}
    marked(2, frames=())  # takes "done" back
    marked(2, frames=(20,))
    prune.main(params)
    assert files.sha256(paths.PRUNED) != first


def test_phases_come_first_unless_people_s_labels_are_asked_for(params):
    simulated.write(paths.ANNOTATED, size=params.simulation.image_size)
    dataset = lerobot.open_dataset(paths.ANNOTATED)
    marked(2)
    source, found = prune.read_labels(dataset, params)
    assert (source, found.boundaries[0].sum()) == ("phases", 7)
    source, found = prune.read_labels(dataset, learned(params, labels="people"))
    assert (source, found.boundaries[0].sum()) == ("people", 2)


@pytest.mark.parametrize(
    ("count", "update", "word"),
    [
        (0, {}, "0 episodes are labelled"),
        (1, {}, "1 episodes are labelled"),
        (2, {"labels": "phases"}, "no episode has phases"),
    ],
)
def test_too_few_labels_are_refused_with_the_command_that_makes_them(params, count, update, word):
    without_phases(paths.ANNOTATED, episodes=2)
    marked(count)
    dataset = lerobot.open_dataset(paths.ANNOTATED)
    with pytest.raises(UserError, match=f"{word}.*dualvla label"):
        prune.read_labels(dataset, learned(params, **update))


def test_labels_without_a_single_boundary_teach_nothing(params):
    without_phases(paths.ANNOTATED, episodes=2)
    marked(2, frames=())
    with pytest.raises(UserError, match="no boundary in the 1 episodes"):
        prune.read_labels(lerobot.open_dataset(paths.ANNOTATED), learned(params))


def test_labels_of_another_data_set_stop_the_stage(params):
    without_phases(paths.ANNOTATED, episodes=2)
    marked(1)
    record = files.read_json(paths.LABELS)
    files.write_json(paths.LABELS, record | {"dataset": "bridge_dataset"})
    untrained_base(params)
    with pytest.raises(UserError, match="labels of data set bridge_dataset, not of simulation"):
        prune.main(params)
    assert not paths.PRUNED.exists()


def test_data_without_phases_is_pruned_without_a_table_of_events(params):
    without_phases(paths.ANNOTATED)
    untrained_base(params)
    prune.main(change_points(params))
    assert (paths.PRUNED / "verdicts.parquet").is_file()
    assert not (paths.PRUNED / "events.json").exists()


def test_without_a_base_model_it_says_which_stage_to_run(params):
    simulated.write(paths.ANNOTATED)
    with pytest.raises(UserError, match="base_vlm"):
        prune.main(params)
