import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualvla.report import plots, svg

finite = st.floats(-1e6, 1e6)


@given(finite, finite)
def test_ticks_cover_the_range_and_rise_evenly(a, b):
    low, high = min(a, b), max(a, b)
    values = svg.ticks(low, high)
    assert values == sorted(set(values))
    assert 2 <= len(values) <= 8
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert values[0] <= low + slack
    assert values[-1] >= high - slack


@given(st.floats(-9e4, 9e4))
def test_coordinates_read_back(value):
    assert float(svg.number(value)) == pytest.approx(value, abs=0.51)
    assert svg.number(value) != "-0"


def test_text_is_escaped():
    assert "&lt;b&gt;" in svg.text(0, 0, "<b>")
    assert 'x="&quot;"' in svg.tag("a", x='"')


def test_a_missing_dimension_leaves_the_radar_open():
    full = {"model": "dualvla", "r": 0.5, "a": 0.5, "i": 0.5, "ra": 0.5, "success": 0.5}
    assert plots.radar([full], "t").count("<polyline") == 0
    assert plots.radar([full | {"model": "specialist", "r": None, "ra": None}], "t").count(
        "<polyline"
    )


def test_a_model_without_a_curve_says_so():
    drawn = plots.curves([{"model": "base_vlm", "curve": []}], "t")
    assert "no curve recorded" in drawn
