import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualvla.evaluation import vla_score
from dualvla.evaluation.judges import Ratings

# The paper's table: r, a, i, ra, success, score; percent. None: a specialist.
PAPER = {
    "InstructVLA-E": (None, 63.1, 73.2, None, 56.0, 45.3),
    "Magma": (66.0, 61.0, 71.2, 36.0, 30.5, 19.5),
    "InstructVLA-G": (72.3, 48.6, 68.0, 43.3, 53.0, 35.1),
    "DualVLA": (74.0, 64.8, 74.7, 51.0, 61.0, 42.9),
}
ten = st.integers(0, 10)


@given(ten, ten, ten, ten)
def test_the_formula_of_a_reasoning_model(r, a, i, ra):
    found = vla_score.score(Ratings(r, a, i, ra, ()), True)
    assert found == pytest.approx((r / 10 + a / 10 * i / 10) / 2 * ra / 10)
    assert 0 <= found <= 1


@given(ten, ten)
def test_the_formula_of_a_specialist(a, i):
    assert vla_score.score(Ratings(None, a, i, None, ()), True) == pytest.approx(a * i / 100)


@given(ten, ten, ten, ten)
def test_a_failure_scores_0(r, a, i, ra):
    assert vla_score.score(Ratings(r, a, i, ra, ()), False) == 0
    assert vla_score.score(Ratings(None, a, i, None, ()), False) == 0


@pytest.mark.parametrize("model", PAPER)
def test_the_paper_s_scores_are_possible_means_of_products_but_no_products_of_means(model):
    r, a, i, ra, success, score = (None if x is None else x / 100 for x in PAPER[model])
    scale = "specialist" if r is None else "reasoning"
    means = {"r": r, "a": a, "i": i, "ra": ra, "success": success}
    low, high = vla_score.bounds(means, scale)
    assert low <= score <= high
    motion = a * i
    product = (motion if r is None else (r + motion) / 2 * ra) * success
    assert product < score - 0.04


ratings = st.tuples(ten, ten, ten, ten, st.booleans())


def frame(rows, specialist=False):
    made = []
    for r, a, i, ra, success in rows:
        found = Ratings(None, a, i, None, ()) if specialist else Ratings(r, a, i, ra, ("jerky",))
        made.append(vla_score.row(found, success))
    return pd.DataFrame(made).astype(vla_score.COLUMN_TYPES)


@given(st.lists(ratings, min_size=1, max_size=20), st.booleans())
def test_a_model_s_score_is_the_mean_of_products_within_the_bounds_of_its_means(rows, specialist):
    found = vla_score.summary(frame(rows, specialist))
    scale = "specialist" if specialist else "reasoning"
    low, high = vla_score.bounds(found, scale)
    assert low - 1e-9 <= found["score"] <= high + 1e-9
    assert found["n"] == len(rows)
    if found["success"]:
        assert found["score_per_success"] == pytest.approx(found["score"] / found["success"])


def test_a_specialist_has_no_means_of_text_and_failures_are_counted():
    rows = [(1, 2, 3, 4, True), (5, 6, 7, 8, False)]
    assert vla_score.summary(frame(rows, specialist=True))["r"] is None
    assert vla_score.summary(frame(rows))["failures"] == {"jerky": 2}
    assert vla_score.summary(frame(rows))["r"] == pytest.approx(0.3)


def test_the_scale_follows_from_who_may_write():
    assert vla_score.scale_of("specialist", "auto") == "specialist"
    assert vla_score.scale_of("dualvla", "never") == "specialist"
    assert vla_score.scale_of("dualvla", "auto") == "reasoning"
