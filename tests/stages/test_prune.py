from pathlib import Path

import pandas as pd
import pytest
import simulated_episodes as simulated

from dualvla import config, files, paths
from dualvla.data import language, lerobot, rlds
from dualvla.errors import QualityError, UserError
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
    prune.main(params)
    shares = files.read_json(paths.PRUNED / "retention.json")["retention"]["all"]["shares"]
    assert 0 < shares["keep"] < shares["action"] < 0.6


def test_without_a_base_model_it_says_which_stage_to_run(params):
    simulated.write(paths.ANNOTATED)
    with pytest.raises(UserError, match="base_vlm"):
        prune.main(params)
