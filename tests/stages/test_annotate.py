from pathlib import Path

import numpy as np
import pytest
import simulated_episodes as simulated

from dualvla import config, files, paths
from dualvla.data import language, lerobot, rlds
from dualvla.errors import UserError
from dualvla.stages import annotate

REPOSITORY = Path(__file__).parents[2]
SAMPLE = REPOSITORY.parent / "shared" / "data" / "bridge_rlds_sample"


@pytest.fixture
def params(tmp_path, monkeypatch) -> config.Params:
    monkeypatch.chdir(tmp_path)
    return config.load(REPOSITORY / "params.yaml")


def test_episodes_are_copied_and_annotated(params):
    simulated.write(paths.DEMONSTRATIONS)
    source = lerobot.open_dataset(paths.DEMONSTRATIONS)
    annotate.write(source, paths.ANNOTATED, params)
    copy = lerobot.open_dataset(paths.ANNOTATED)
    assert copy.about == source.about
    assert copy.images() == source.images()
    for name in source.features:
        if name != lerobot.CAMERA:
            np.testing.assert_array_equal(copy.column(name), source.column(name))
    assert copy.episodes["task"].tolist() == source.episodes["task"].tolist()
    assert all(language.reasoning(copy))


def test_same_input_gives_same_bytes(params):
    simulated.write(paths.DEMONSTRATIONS)
    source = lerobot.open_dataset(paths.DEMONSTRATIONS)
    for name in "ab":
        annotate.write(source, Path(name), params)
    assert files.sha256("a") == files.sha256("b")


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no RLDS sample")
def test_real_episodes_are_annotated_without_positions(params, capsys):
    rlds.import_rlds(SAMPLE, paths.DEMONSTRATIONS)
    annotate.write(lerobot.open_dataset(paths.DEMONSTRATIONS), paths.ANNOTATED, params)
    copy = lerobot.open_dataset(paths.ANNOTATED)
    texts = language.reasoning(copy)
    assert not any(" at " in text for text in texts)
    assert len(set(texts)) > 20
    for commands in language.commands(copy):
        assert {command.kind for command in commands} >= {"plain", "rewrite"}


def test_annotating_twice_is_refused(params):
    simulated.write(paths.DEMONSTRATIONS)
    annotate.write(lerobot.open_dataset(paths.DEMONSTRATIONS), Path("once"), params)
    Path("once").rename("twice")
    paths.DEMONSTRATIONS.rename("old")
    Path("twice").rename(paths.DEMONSTRATIONS)
    with pytest.raises(UserError, match="annotated already"):
        annotate.main(params)


def test_no_demonstrations_is_one_error(params):
    with pytest.raises(UserError, match="no such data set"):
        annotate.main(params)


def test_the_gate_passes_on_what_the_stage_writes(params):
    simulated.write(paths.DEMONSTRATIONS)
    annotate.main(params)
    assert (paths.ANNOTATED / "quality.json").is_file()
    assert not list(paths.ANNOTATED.parent.glob(".*"))
