import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dualvla.errors import UserError
from dualvla.evaluation.judging.agreement import compare, spearman
from dualvla.evaluation.judging.embeddings import Space, diverse, nearest
from dualvla.evaluation.judging.scoring import COLUMNS

tens = st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), min_size=1, max_size=40)


@settings(max_examples=50)
@given(tens)
def test_rank_correlation_is_scipy_s_within_its_interval(pairs):
    first, second = np.array(pairs, float).T
    rho, low, high = spearman(first, second)
    assert -1 <= low <= high <= 1
    if rho is not None:
        assert rho == pytest.approx(stats.spearmanr(first, second).statistic)
        assert low <= rho <= high


@pytest.mark.parametrize("pairs", [[(1, 1)] * 9, [(1, n) for n in range(9)], [(0, 0), (1, 1)]])
def test_no_order_no_correlation(pairs):
    first, second = np.array(pairs, float).T
    assert spearman(first, second) == (None, -1, 1)


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    rho, hits = 0.6, []
    true = 6 / np.pi * np.arcsin(rho / 2)  # Spearman's of a normal pair
    for _ in range(300):
        x, noise = rng.normal(size=(2, 40))
        _, low, high = spearman(x, rho * x + np.sqrt(1 - rho**2) * noise)
        hits.append(low <= true <= high)
    assert 0.92 <= np.mean(hits) <= 0.99


def scores(folder, ratings, status="ok"):
    rows = [
        {
            "model": "dualvla",
            "starts": "official",
            "task": "carrot",
            "start_id": str(number),
            **dict.fromkeys(("r", "i", "ra"), 5),
            "a": rating,
            "success": True,
            "score": rating / 10,
            "status": status if number else "ok",
        }
        for number, rating in enumerate(ratings)
    ]
    folder.mkdir()
    pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS).to_parquet(folder / "scores.parquet")
    return folder


def test_two_judges_of_the_same_trajectories_are_compared(tmp_path):
    first = scores(tmp_path / "one", [1, 3, 5, 7, 9])
    rows = {row["name"]: row for row in compare(first, scores(tmp_path / "two", [2, 4, 5, 6, 10]))}
    assert rows["a"]["rho"] == 1
    assert rows["a"]["n"] == 5
    assert rows["a"]["difference"] == pytest.approx(-0.4)
    assert rows["r"]["rho"] is None
    (row,) = (
        row
        for row in compare(first, scores(tmp_path / "three", [1, 1, 1, 1, 1], "error"))
        if row["name"] == "a"
    )
    assert row["n"] == 1


def test_judges_of_nothing_in_common_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        compare(tmp_path, tmp_path)
    empty = scores(tmp_path / "empty", [])
    with pytest.raises(UserError, match="no trajectory that both rated"):
        compare(scores(tmp_path / "one", [1, 2]), empty)


def film(colour):
    return [np.full((32, 32, 3), colour, np.uint8)] * 3


TEXTS = ["put carrot on plate", "put the spoon on the towel", "stack the green block"]
FILMS = [film((230, 120, 20)), film((20, 200, 20)), film((20, 20, 230))]


@pytest.mark.parametrize("place", range(3))
def test_the_like_is_near(place):
    space = Space.of(TEXTS, FILMS)
    near = space.near(TEXTS[place] + " now", FILMS[place])
    assert nearest(near, 1) == [place]
    assert np.array_equal(near, Space.of(TEXTS, FILMS).near(TEXTS[place] + " now", FILMS[place]))
    assert np.allclose(np.diag(space.all_pairs()), 1)


def test_the_diverse_are_no_copies():
    texts, films = [*TEXTS, *TEXTS], [*FILMS, *FILMS]
    chosen = diverse(Space.of(texts, films).all_pairs(), 3)
    assert {index % 3 for index in chosen} == {0, 1, 2}
    assert len(diverse(Space.of(texts, films).all_pairs(), 99)) == 6
