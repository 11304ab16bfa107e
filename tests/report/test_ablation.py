"""The ablation's report on results whose truth is known."""

import json

import ablation_workspace
import numpy as np
import pandas as pd
import pytest

from dualvla import files, paths
from dualvla.errors import UserError
from dualvla.report import ablation, ablation_page, claims
from dualvla.stages import ablation as stage

STARTS = pd.MultiIndex.from_product(
    [["official"], ["carrot"], range(50)], names=["starts", "task", "start_id"]
)


def outcomes(**models: np.ndarray) -> dict[str, pd.DataFrame]:
    return {name: pd.DataFrame(values, index=STARTS) for name, values in models.items()}


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    root = tmp_path_factory.mktemp("ablation")
    params = ablation_workspace.build(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        stage.main(params)
        yield json.loads((paths.ABLATION / paths.REPORT / "summary.json").read_text())


def chosen(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_rates_are_pooled_over_seeds_and_crashes_count_neither_way(summary):
    row = chosen(summary["success"], model="dualvla", starts="official", task="all")[0]
    assert (row["n"], row["errors"]) == (2 * 40 * 3 - 3, 3)
    assert sum(part["k"] for part in row["by_seed"]) == row["k"]
    assert row["low"] < row["rate"] < row["high"]
    # Starts return under every seed: the interval is wider than that of independent episodes.
    assert row["high"] - row["low"] > 1.2 * (row["wilson_high"] - row["wilson_low"])


def test_every_model_stands_against_every_reference_in_pairs(summary):
    rows = chosen(summary["comparisons"], budget="short", starts="shifted")
    assert len(rows) == len(claims.REFERENCES) * (len(summary["models"]) - 1)
    for row in rows:
        assert row["n"] + row["left_out"] == 2 * 40 * 3
        assert row["both"] + row["first_only"] + row["second_only"] + row["neither"] == row["n"]
        assert row["p_holm"] >= row["p"]


def test_true_differences_are_claimed(summary):
    said = {row["claim"]: row for row in chosen(summary["claims"], starts="official")}
    assert said["degeneration"]["winner"] == "specialist_ft"
    assert "succeeds less often" in said["degeneration"]["text"]
    assert said["repair"]["winner"] == "dualvla"
    assert said["pruning"]["winner"] == "dualvla"
    assert "100.0 % of the generalist's held-out answers" in said["non-inferiority"]["text"]


def test_noise_names_no_winner():
    rng = np.random.default_rng(3)
    names = ("generalist", "base_ft", "dualvla", "random_mask", "specialist_ft")
    made = outcomes(**{name: (rng.random((50, 3)) < 0.5).astype(float) for name in names})
    rows = claims.told(made, [{"model": "dualvla", "of_generalist": 0.5}])
    assert {row["claim"] for row in rows} == {
        *(c for c, _, _ in claims.CLAIMS),
        "non-inferiority",
    }
    assert not [row["winner"] for row in rows if row["winner"]]
    assert all("No difference is shown" in row["text"] for row in rows[:-1])
    assert "is not decided" in rows[-1]["text"]
    assert "less than 95 %" in rows[-1]["text"]


def test_a_single_lucky_training_run_is_no_difference():
    even = np.zeros((50, 3))
    lucky = even.copy()
    lucky[:, 1] = 1.0
    row = claims.compare(outcomes(generalist=even, specialist_ft=lucky))[0]
    assert row["p_holm"] < 1e-10
    assert row["winner"] is None


def test_equal_models_are_as_good_within_the_margin():
    same = (np.random.default_rng(0).random((50, 3)) < 0.7).astype(float)
    made = outcomes(dualvla=same, specialist_ft=same.copy())
    told = claims.told(made, [{"model": "dualvla", "of_generalist": 0.99}])[-1]["text"]
    assert "loses less than 5 points" in told
    assert "at least 95 %" in told


def test_models_on_other_starts_are_refused(tmp_path, monkeypatch):
    params = ablation_workspace.build(tmp_path, trials=4)
    monkeypatch.chdir(tmp_path)
    path = paths.results(paths.EVALUATION, "base_ft", "short-0") / "results.parquet"
    pd.read_parquet(path).iloc[:-1].to_parquet(path, index=False)
    with pytest.raises(UserError, match="did not run the same episodes"):
        ablation.collect(params)


def test_a_missing_run_is_named(tmp_path, monkeypatch):
    params = ablation_workspace.build(tmp_path, trials=4)
    monkeypatch.chdir(tmp_path)
    path = paths.results(paths.BENCHMARK, "dualvla", "short-2") / "answers.parquet"
    path.unlink()
    with pytest.raises(UserError, match="no such file") as caught:
        ablation.collect(params)
    assert "short-2" in str(caught.value)


def test_the_page_needs_nothing_from_outside_and_keeps_the_paper_apart(summary):
    page = (paths.ABLATION / paths.REPORT / "page.html").read_text()
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    before, reported = page.split('<section id="reported">')
    assert "model (reported)" in reported
    assert "73.4" in reported
    assert "73.4" not in before
    assert page.count("<svg") == len(ablation_page.draw(summary))


def test_the_markdown_and_the_metrics_say_the_same(summary):
    folder = paths.ABLATION / paths.REPORT
    text = (folder / "report.md").read_text()
    rates = files.read_json(folder / "metrics.json")
    rate = rates["short"]["official"]["dualvla"]
    assert f"| dualvla | **{100 * rate:.1f}**" in text
    assert (folder / "plots/short-official-base_ft.svg").is_file()


def test_without_a_pair_of_models_to_claim_anything_of_it_says_so(summary):
    bare = summary | {"claims": []}
    said = "No claim is about two of these models."
    assert said in ablation_page.html(bare)
    assert said in ablation_page.markdown(bare)
    assert said not in ablation_page.html(summary)


def test_models_that_reasoned_otherwise_are_refused(tmp_path, monkeypatch):
    params = ablation_workspace.build(tmp_path, trials=4)
    monkeypatch.chdir(tmp_path)
    assert ablation.collect(params)["reason"] == "auto"
    path = paths.results(paths.EVALUATION, "base_ft", "short-0") / "summary.json"
    path.write_text(path.read_text().replace('"auto"', '"always"'))
    with pytest.raises(UserError, match=r"reason of .* is 'a"):
        ablation.collect(params)


def test_models_that_ran_by_other_protocols_are_refused(tmp_path, monkeypatch):
    params = ablation_workspace.build(tmp_path, trials=4)
    monkeypatch.chdir(tmp_path)
    path = paths.results(paths.EVALUATION, "base_ft", "short-0") / "summary.json"
    path.write_text(path.read_text().replace("of seed 0", "another"))
    with pytest.raises(UserError, match=r"base_ft and .* ran by other protocols, seed 0"):
        ablation.collect(params)
