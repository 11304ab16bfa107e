import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualvla.errors import UserError
from dualvla.evaluation import simpler, statistics
from dualvla.report import comparisons


def episodes(outcomes, seed=0):
    rows = []
    for index, outcome in enumerate(outcomes):
        row = dict.fromkeys(simpler.EPISODE_TYPES)
        row |= {"starts": "official", "task": "carrot", "start_id": f"{index}", "seed": seed}
        row |= {"status": "ok" if outcome is not None else "error", "last_step": outcome}
        rows.append(row)
    return pd.DataFrame(rows).astype(simpler.EPISODE_TYPES)


def test_pairs_are_fixed_in_advance():
    assert comparisons.pairs(["specialist", "generalist", "dualvla", "base_ft"]) == [
        ("dualvla", "specialist"),
        ("dualvla", "generalist"),
        ("dualvla", "base_ft"),
        ("generalist", "specialist"),
    ]
    assert comparisons.pairs(["base_ft"]) == []


def test_clear_gain_names_a_winner_and_says_so():
    tables = {"dualvla": episodes([True] * 40), "base_ft": episodes([True] * 20 + [False] * 20)}
    rows = comparisons.compare(tables, "last_step")
    assert {row["winner"] for row in rows} == {"dualvla"}
    told = comparisons.verdict(rows, "official", list(tables))
    assert told["conclusive"]
    assert "dualvla succeeds more often than base_ft (+50.0 points" in told["text"]


def test_clear_loss_is_told_as_a_loss():
    tables = {"dualvla": episodes([False] * 40), "base_ft": episodes([True] * 40)}
    rows = comparisons.compare(tables, "last_step")
    told = comparisons.verdict(rows, "official", list(tables))
    assert rows[0]["winner"] == "base_ft"
    assert "dualvla succeeds less often than base_ft" in told["text"]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=5))
def test_five_pairs_never_name_a_winner(outcomes):
    first, second = (list(column) for column in zip(*outcomes, strict=True))
    tables = {"dualvla": episodes(first), "base_ft": episodes(second)}
    rows = comparisons.compare(tables, "last_step")
    assert {row["winner"] for row in rows} == {None}
    told = comparisons.verdict(rows, "official", list(tables))
    assert not told["conclusive"]
    assert "no difference is shown" in told["text"]


def test_more_comparisons_need_a_smaller_p():
    # 7 discordant pairs, all one way: p = 0.016, enough alone, not among four.
    better, worse = [True] * 7 + [False] * 20, [False] * 27
    alone = comparisons.compare(
        {"dualvla": episodes(better), "base_ft": episodes(worse)}, "last_step"
    )
    assert alone[0]["winner"] == "dualvla"
    models = ("specialist", "generalist", "base_ft")
    tables = {"dualvla": episodes(better)} | {name: episodes(worse) for name in models}
    among = comparisons.compare(tables, "last_step")
    assert {row["winner"] for row in among} == {None}


def test_crashed_episodes_leave_the_pair_out():
    tables = {"dualvla": episodes([None, True, True]), "base_ft": episodes([True, None, False])}
    row = comparisons.compare(tables, "last_step")[0]
    assert (row["n"], row["left_out"], row["first_only"]) == (1, 2, 1)


def test_no_common_episode_is_no_verdict():
    tables = {"dualvla": episodes([None]), "base_ft": episodes([True])}
    rows = comparisons.compare(tables, "last_step")
    told = comparisons.verdict(rows, "official", list(tables))
    assert told["text"].startswith("Nothing to compare")
    assert not told["conclusive"]


def test_other_seeds_are_refused():
    tables = {"dualvla": episodes([True]), "base_ft": episodes([True], seed=1)}
    with pytest.raises(UserError, match="same episodes"):
        comparisons.compare(tables, "last_step")


def test_holm_adjusts_within_the_family_only():
    rng = np.random.default_rng(0)
    tables = {
        name: episodes(list(rng.random(30) < share))
        for name, share in {"dualvla": 0.8, "base_ft": 0.5, "generalist": 0.4}.items()
    }
    rows = comparisons.compare(tables, "last_step")
    assert all(row["p_holm"] >= row["p"] for row in rows)
    totals = [row for row in rows if row["task"] == "all"]
    assert max(row["p_holm"] / row["p"] for row in totals) <= len(totals) + 1e-9


def test_every_comparison_says_what_it_could_have_shown():
    rng = np.random.default_rng(1)
    first, second = (list(rng.random(96) < 0.6) for _ in range(2))
    models = ("specialist", "generalist", "base_ft")
    alone = comparisons.compare(
        {"dualvla": episodes(first), "base_ft": episodes(second)}, "last_step"
    )
    tables = {"dualvla": episodes(first)} | {name: episodes(second) for name in models}
    among = comparisons.compare(tables, "last_step")
    row = alone[0]
    differ = (row["first_only"] + row["second_only"]) / 96
    assert row["detectable"] == statistics.detectable(96, differ)
    assert 0.1 < row["detectable"] < among[0]["detectable"] < 0.5
    told = comparisons.verdict(alone, "official", ["dualvla", "base_ft"])
    assert f"detectable {100 * row['detectable']:.1f} points)" in told["text"]


def test_too_few_pairs_can_show_nothing_and_say_so():
    tables = {"dualvla": episodes([True] * 5), "base_ft": episodes([False] * 5)}
    row = comparisons.compare(tables, "last_step")[0]
    assert row["detectable"] is None
    assert "nothing detectable" in comparisons.told_of(row)
