import json

import pytest
import results_workspace
import typer.testing

from dualvla import paths
from dualvla.errors import UserError
from dualvla.lineage import chain, command, records
from dualvla.report import lineage, summary


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A workspace with a report."""
    root = tmp_path_factory.mktemp("workspace")
    params = results_workspace.build(root)
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / paths.REPORT).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        figures = summary.collect(params)
    (root / paths.REPORT / "summary.json").write_text(json.dumps(figures))
    return root


@pytest.fixture
def record(built, monkeypatch):
    """The last run in a workspace, which is the current folder."""
    monkeypatch.chdir(built)
    return records.of_workspace(built)


def test_a_number_leads_back_to_the_data_its_gates_and_parameters(record):
    found = chain.figure(record, "success.dualvla.official.all.rate")
    stages = [row["stage"] for row in found.stages]
    assert stages == ["demonstrations", "prune", "train@dualvla", "evaluate@dualvla"]
    row = next(
        r for r in record.summary["success"] if (r["model"], r["task"]) == ("dualvla", "all")
    )
    assert found.facts["value"] == row["rate"]
    told = chain.text(found)
    md5 = lineage.md5(paths.PRUNED)
    assert f"data    data/pruned {md5}  [gate pruned passed: 14 passed]" in told
    assert "params  demonstrations.per_task = 60; seed = 0" in told
    assert "code    python -m dualvla.stages.prune (1 paths" in told
    assert f"result  results/evaluate/dualvla {lineage.md5(paths.EVALUATION / 'dualvla')}" in told
    assert told.index("\nprune\n") < told.index("\ntrain@dualvla\n")


@pytest.mark.parametrize(
    ("path", "end"),
    [
        ("questions.dualvla.all", "benchmark@dualvla"),
        ("questions.base_vlm.all", None),
        ("modes.dualvla.any_step.rate", "evaluate@dualvla"),
        ("comparisons.dualvla.base_ft.official.all.difference", "evaluate@base_ft"),
        ("vla_score.dualvla.ra", "score@dualvla"),
        ("diagnosis.generalist.errors.all.none.error", "diagnose@generalist"),
        ("retention.all.all.keep.rate", "prune"),
        ("events.learned.f1", "prune"),
        ("training.dualvla.heldout.flow", "train@dualvla"),
        ("demonstrations.values.success_share", "demonstrations"),
        ("quality.pruned", "prune"),
        ("success.0.rate", "evaluate@specialist"),
        ("verdict", "evaluate@base_ft"),
    ],
)
def test_every_kind_of_figure_has_a_chain_that_ends_at_its_stage(record, path, end):
    if end is None:  # the workspace's lock has no stage that trained it
        with pytest.raises(UserError, match="no stage of dvc"):
            chain.figure(record, path)
        return
    assert chain.figure(record, path).stages[-1]["stage"] == end


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("sucess.dualvla", "the report has no sucess"),
        ("success.dualvla.official", "it names several rows, by task"),
        ("success.nobody", "no model nobody.*one of specialist"),
        ("success.dualvla.official.all.rat", "no rat there"),
        ("reported.rows.0.carrot", "it comes from no stage"),
        ("seed", "it comes from no stage"),
    ],
)
def test_a_figure_that_is_none_is_told_with_what_there_is(record, path, says):
    with pytest.raises(UserError, match=says):
        chain.figure(record, path)


def test_an_episode_has_its_outcome_and_the_chain_of_its_evaluation(record):
    found = chain.episode(record, "dualvla/official/carrot/carrot-03")
    assert (found.facts["seed"], found.facts["status"]) == (3, "ok")
    assert found.stages[-1]["stage"] == "evaluate@dualvla"
    with pytest.raises(UserError, match=r"no episode with start_id carrot-99.*carrot-00"):
        chain.episode(record, "dualvla/official/carrot/carrot-99")


def test_without_a_lock_nothing_is_recorded(tmp_path):
    with pytest.raises(UserError, match="nothing is recorded here yet"):
        records.of_workspace(tmp_path)


def test_the_command_prints_the_chain_and_writes_its_events(record, tmp_path):
    app = typer.Typer()
    app.command()(command.lineage)
    run = typer.testing.CliRunner().invoke
    answer = run(app, ["vla_score.dualvla", "--events", str(tmp_path / "events.json")])
    assert answer.exit_code == 0, answer.exception
    assert answer.stdout == chain.text(chain.figure(record, "vla_score.dualvla"))
    assert len(json.loads((tmp_path / "events.json").read_text())) == 2 * 4
    assert "nothing that has a lineage" in str(run(app, ["a/b/c"]).exception)
