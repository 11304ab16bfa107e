"""Measured models beside published figures, and what is kept away from them."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import results_workspace
from typer.testing import CliRunner

from dualvla import cli, config, paths
from dualvla.errors import UserError
from dualvla.evaluation import protocol, simpler
from dualvla.report import comparison, reported

CHANCES = {"last_step": 0.6, "any_step": 0.7, "early_stop": 0.6}


@pytest.fixture
def ours(tmp_path, monkeypatch):
    """Folders of evaluations on the generated pack, as the stage writes them."""
    results_workspace.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return [paths.EVALUATION / model for model in results_workspace.MODELS]


@pytest.fixture
def ran(tmp_path):
    """A function that writes an evaluation by a published protocol; `changes` go into its summary.

    Episodes are drawn at random, then counted by the evaluation's own code.
    """

    def write(model, suite, assets="official", trials=None, **changes):
        rows = []
        draw = np.random.default_rng(len(model))
        for column in comparison.COLUMNS:
            if column.protocol != suite:
                continue
            for index in range(trials or column.trials):
                row = dict.fromkeys(simpler.EPISODE_TYPES)
                row |= {"starts": "official", "task": column.task, "start_id": f"s-{index}"}
                row |= {"seed": index, "status": "ok", "steps": 60, "decisions": 60}
                row |= {"texts": 0, "tokens": 60}
                rows.append(row | {mode: draw.random() < p for mode, p in CHANCES.items()})
        table = pd.DataFrame(rows).astype(simpler.EPISODE_TYPES)
        summary = simpler.summary(simpler.Outcome(table, pd.DataFrame(), 1.0), "last_step")
        head = {"schema": 1, "model": model, "assets": assets, "reason": "auto", "seed": 0}
        head |= {"execute": 1, "protocol": {"name": suite, "hash": f"{suite}-{assets}"}}
        folder = tmp_path / "runs" / f"{model}-{suite}-{assets}"
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps(summary | head | changes))
        return folder

    return write


def cells(text: str, model: str) -> list[str]:
    """A row of the Markdown page."""
    (line,) = [one for one in text.splitlines() if one.startswith(f"| {model} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_measured_model_stands_beside_the_published_ones_with_n_and_interval(ran):
    document = comparison.collect([ran("dualvla", "widowx")])
    (row,) = document["measured"]
    assert set(row["cells"]) == {"spoon", "carrot", "stack", "eggplant"}
    assert {key: cell["n"] for key, cell in row["cells"].items()} == {
        "spoon": 24,
        "carrot": 24,
        "stack": 24,
        "eggplant": 64,
    }
    text = comparison.markdown(document)
    at = [column.key for column in comparison.COLUMNS].index("carrot")
    cell = row["cells"]["carrot"]
    shown = cells(text, "dualvla")[2 + at]
    assert shown.startswith(f"**{100 * cell['rate']:.1f}** {cell['k']}/24 [{100 * cell['low']:.1f}")
    assert cells(text, "DualVLA")[:2] == ["DualVLA", "reported"]
    assert cells(text, "DualVLA")[2 + at] == "50.0"
    assert document["apart"] == []


def test_generated_assets_and_other_protocols_never_reach_a_published_column(ran):
    folders = [
        ran("dualvla", "widowx", assets="generated"),
        ran("specialist", "widowx", protocol={"name": "nightly", "hash": "n"}),
        ran("expert", "widowx"),
    ]
    document = comparison.collect(folders)
    assert [row["model"] for row in document["measured"]] == ["expert"]
    kept = [(one["assets"], one["protocol"], one["rows"][0]["model"]) for one in document["apart"]]
    assert kept == [("generated", "widowx", "dualvla"), ("official", "nightly", "specialist")]
    for text, own in (
        (comparison.html(document), "Not comparable with any published figure"),
        (comparison.markdown(document), "Not comparable with any published figure"),
    ):
        published, *others = text.split(own)
        assert len(others) == 2
        assert "dualvla</td>" not in published
        assert "| dualvla |" not in published
        assert "own" in others[0].split(".")[0]
        assert "63.9" not in "".join(others)


def test_evaluations_of_the_stage_get_a_table_of_their_own(ours):
    document = comparison.collect(ours)
    assert document["measured"] == []
    (table,) = document["apart"]
    assert [row["model"] for row in table["rows"]] == list(results_workspace.MODELS)
    assert table["protocol"] == "nightly"
    for row, folder in zip(table["rows"], ours, strict=True):
        rates = json.loads((folder / "summary.json").read_text())["rates"]
        everything = next(rate for rate in rates if rate["task"] == "all")
        assert {key: everything[key] for key in row["all"]} == row["all"]
        assert row["all"]["errors"] == 1
    assert any(note.endswith("count neither way: 4.") for note in document["notes"])
    assert any("No result here" in note for note in document["notes"])


def test_the_two_means_have_their_own_members_and_need_them_all(ran):
    folders = [ran("dualvla", name) for name in ("widowx", "google_vm", "google_va")]
    (row,) = comparison.collect(folders)["measured"]
    rates = {key: cell["rate"] for key, cell in row["cells"].items()}
    assert row["mean_of_nine"]["rate"] == pytest.approx(
        np.mean([rates[k] for k in comparison.NINE])
    )
    eleven = np.mean([rates[k] for k in (*comparison.NINE, "put_vm", "put_va")])
    assert row["mean_of_eleven"]["rate"] == pytest.approx(eleven)
    assert row["mean_of_eleven"]["rate"] != row["mean_of_nine"]["rate"]
    # The eggplant's 64 are in neither.
    assert sum(cell["n"] for cell in row["cells"].values()) - row["mean_of_eleven"]["n"] == 64
    (part,) = comparison.collect(folders[:2])["measured"]
    assert part["mean_of_nine"] is None
    assert part["mean_of_eleven"] is None


def test_the_published_means_are_those_of_their_columns():
    for row in reported.table():
        own = np.mean([row[key] for key in comparison.NINE])
        assert row["mean_9"] == pytest.approx(own, abs=0.06), row["model"]


def test_columns_are_of_the_committed_protocols():
    known = [column for column in comparison.COLUMNS if column.protocol in protocol.names()]
    assert {"spoon", "carrot", "stack", "eggplant"} <= {column.key for column in known}
    for column in known:
        data = config.read_yaml(protocol.FOLDER / f"{column.protocol}.yaml")
        assert column.task in {block["task"] for block in data["episodes"]}, column
        if data["engine"] == "simulation":
            suite = protocol.load(column.protocol)
            planned = protocol.resolve(suite, "official", 0, tasks=[column.task]).planned
            assert len(planned) == column.trials


def test_a_mean_s_interval_is_narrower_than_its_columns_and_covers():
    draw = np.random.default_rng(0)
    truth, trials, covered = np.array([0.1, 0.5, 0.8]), 24, []
    for _ in range(2000):
        rows = [comparison.statistics.rate(int(k), trials) for k in draw.binomial(trials, truth)]
        found = comparison.mean(rows)
        assert found["high"] - found["low"] < max(row["high"] - row["low"] for row in rows)
        covered.append(found["low"] <= truth.mean() <= found["high"])
    assert 0.93 <= np.mean(covered) <= 0.975


def test_a_mean_of_certain_failures_is_not_certain():
    found = comparison.mean([comparison.statistics.rate(0, 24)] * 9)
    assert found["rate"] == found["low"] == 0
    assert math.isclose(found["high"], comparison.statistics.rate(0, 24)["high"] / 3)


def test_a_part_of_a_protocol_says_so(ran):
    notes = comparison.collect([ran("dualvla", "widowx", trials=6)])["notes"]
    assert "dualvla, carrot: 6 episodes, the published protocol has 24." in notes
    assert any("As few as 6 trials" in note for note in notes)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"protocol": {"name": "widowx", "hash": "another"}}, "hash is 'another'"),
        ({"seed": 7}, "seed is 7"),
        ({"success_mode": "any_step"}, "success_mode is 'any_step'"),
    ],
)
def test_results_of_other_conditions_are_refused(ran, change, says):
    folders = [ran("dualvla", "widowx"), ran("specialist", "widowx", **change)]
    with pytest.raises(UserError, match=says) as caught:
        comparison.collect(folders)
    assert "specialist-widowx" in caught.value.where


def test_what_is_no_evaluation_is_refused(ran, tmp_path):
    good = ran("dualvla", "widowx")
    with pytest.raises(UserError, match="is in two folders"):
        comparison.collect([good, good])
    with pytest.raises(UserError, match="no such file"):
        comparison.collect([tmp_path / "nowhere"])
    (good / "summary.json").write_text("[]")
    with pytest.raises(UserError, match="not an evaluation's summary"):
        comparison.collect([good])
    (good / "summary.json").write_text('{"model": "x", "assets": "official"}')
    with pytest.raises(UserError, match="no protocol"):
        comparison.collect([good])
    with pytest.raises(UserError, match="unknown asset pack 'mine'"):
        comparison.collect([ran("other", "widowx", assets="mine")])


def test_the_command_writes_either_page_and_refuses_another_ending(ours, tmp_path):
    runner = CliRunner()
    folders = [str(folder) for folder in ours]
    for name in ("page.html", "deep/page.md"):
        done = runner.invoke(cli.app, ["compare", *folders, "--out", name])
        assert done.exit_code == 0, done.output
        assert Path(name).is_file()
    with pytest.raises(UserError, match="no page of the kind"):
        runner.invoke(cli.app, ["compare", *folders, "--out", "page.pdf"], catch_exceptions=False)
    assert not Path("page.pdf").exists()


def test_the_pages_are_whole_and_need_nothing_from_outside(ran, ours):
    suites = ("widowx", "google_vm", "google_va")
    folders = [*ours, ran("a|b<i>", "widowx"), *(ran("expert", name) for name in suites)]
    document = comparison.collect(folders)
    (complete,) = [row for row in document["measured"] if row["mean_of_eleven"]]
    assert complete["model"] == "expert"
    text = comparison.html(document)
    assert "<script" not in text
    assert "http" not in text
    assert "a|b&lt;i&gt;" in text
    for block in re.findall(r"(?:^\|.*\n)+", comparison.markdown(document), re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block
