import json
from pathlib import Path

import pytest
import results_workspace

from dualvla import files, paths
from dualvla.errors import UserError
from dualvla.report import sections, summary


@pytest.fixture
def params(tmp_path, monkeypatch):
    built = results_workspace.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return built


def change(path: Path, **values) -> None:
    files.write_json(path, files.read_json(path) | values)


def test_every_rate_has_n_interval_seeds_mode_and_assets(params):
    rows = summary.collect(params)["success"]
    assert len(rows) == 4 * 5
    for row in rows:
        assert 0 <= row["low"] <= row["rate"] <= row["high"] <= 1
        assert row["rate"] == row["k"] / row["n"]
        assert row["seeds"]
        assert (row["mode"], row["assets"]) == ("last_step", "generated")


def test_models_and_tasks_are_complete(params):
    found = summary.collect(params)
    for section in ("decisions", "vla_score", "diagnosis"):
        assert [row["model"] for row in found[section]] == list(params.evaluate.models)
    assert {row["kind"] for row in found["questions"]} == {"all", *results_workspace.KINDS}
    assert {row["group"] for row in found["retention"] if row["kind"] == "task"} == set(
        params.simulation.tasks
    )
    trained = [row["model"] for row in found["training"]]
    assert trained == ["base_vlm", *params.evaluate.models]


def test_the_base_model_stands_first_among_the_questions(params):
    rows = summary.collect(params)["questions"]
    assert (rows[0]["model"], rows[0]["k"], rows[0]["n"]) == ("base_vlm", 168, 240)
    change(paths.model("base_vlm") / "metrics.json", heldout=None)
    assert summary.collect(params)["questions"][0]["model"] == "specialist"


def test_without_labelled_boundaries_there_are_no_events(params):
    assert [row["method"] for row in summary.collect(params)["events"]["rows"]][-1] == "learned"
    (paths.PRUNED / "events.json").unlink()
    events = summary.collect(params)["events"]
    assert (events["source"], events["rows"]) == (None, [])


def test_every_source_is_in_the_lineage_with_its_stage(params):
    found = summary.collect(params)
    sources = {row["file"]: row for row in found["lineage"]["sources"]}
    assert sources["results/evaluate/dualvla"]["stage"] == "evaluate@dualvla"
    assert sources["results/evaluate/dualvla"]["state"] == "same"
    stages = [row["stage"] for row in found["lineage"]["stages"]]
    assert stages.index("demonstrations") < stages.index("prune") < stages.index("score@dualvla")


def test_a_result_edited_after_the_run_is_told(params):
    change(paths.EVALUATION / "dualvla" / "summary.json", reason="never")
    notes = summary.collect(params)["notes"]
    assert any("Not what dvc.lock recorded: results/evaluate/dualvla" in note for note in notes)


def test_few_trials_and_errors_are_told(params):
    notes = " ".join(summary.collect(params)["notes"])
    assert "23 trials a task" in notes
    assert "4 episodes ended in an error" in notes
    assert "training seed" in notes


def test_a_rate_that_its_episodes_do_not_bear_out_is_refused(params):
    path = paths.EVALUATION / "dualvla" / "summary.json"
    rates = files.read_json(path)["rates"]
    rates[0]["k"] += 1
    change(path, rates=rates)
    with pytest.raises(UserError, match=r"results\.parquet"):
        summary.collect(params)


def test_models_evaluated_by_other_protocols_are_refused(params):
    change(paths.EVALUATION / "base_ft" / "summary.json", protocol={"name": "x", "hash": "x"})
    with pytest.raises(UserError, match=r"protocol is .*'x'.* for specialist"):
        summary.collect(params)


def test_models_evaluated_under_other_conditions_are_refused(params):
    change(paths.EVALUATION / "base_ft" / "summary.json", assets="official")
    with pytest.raises(UserError, match="assets is 'official', for specialist 'generated'"):
        summary.collect(params)


@pytest.mark.parametrize(
    "path",
    [
        paths.EVALUATION / "dualvla" / "summary.json",
        paths.EVALUATION / "dualvla" / "results.parquet",
        paths.BENCHMARK / "dualvla" / "summary.json",
        paths.SCORE / "dualvla" / "summary.json",
        paths.DIAGNOSIS / "dualvla" / "summary.json",
        paths.PRUNED / "retention.json",
    ],
)
def test_a_missing_result_names_the_stage_to_run(params, path):
    path.unlink()
    with pytest.raises(UserError, match="run the stage") as error:
        summary.collect(params)
    assert str(path) in str(error.value)


def test_only_timings_differ_between_two_runs(params):
    first = summary.collect(params)
    change(paths.TIMINGS / "specialist.json", seconds=1.0)
    second = summary.collect(params)
    assert first["timings"] != second["timings"]
    first.pop("timings"), second.pop("timings")
    assert json.dumps(first) == json.dumps(second)


def test_a_stage_that_did_not_run_here_has_no_time(params):
    rows = {row["stage"]: row["seconds"] for row in summary.collect(params)["timings"]}
    assert rows["demonstrations"] == 411.2
    assert rows["prune"] is None


def test_without_a_lock_figures_stand_and_lineage_is_empty(params):
    Path("dvc.lock").unlink()
    found = summary.collect(params)
    assert found["lineage"]["stages"] == []
    assert {row["state"] for row in found["lineage"]["sources"]} == {"unrecorded"}


def test_flatten_names_nested_figures_and_drops_lists():
    nested = {"schema": 1, "a": {"b": 2, "c": {"d": None}}, "e": [1, 2], "f": "x"}
    assert sections.flatten(nested) == {"a.b": 2, "a.c.d": None, "f": "x"}
