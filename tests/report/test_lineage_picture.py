import re

from dualvla.report import lineage_picture

UPSTREAM = {
    "collect": [],
    "prune": ["collect"],
    "train@one": ["collect", "prune"],
    "train@two": ["prune"],
    "evaluate@one": ["train@one"],
    "score@one": ["evaluate@one", "train@one"],
}


def summary(gate=True, upstream=UPSTREAM):
    stages = [{"stage": name, "upstream": ups} for name, ups in upstream.items()]
    sources = [{"file": "data/pruned/quality.json", "stage": "prune"}]
    quality = [{"source": "data/pruned/quality.json", "success": gate}]
    return {"lineage": {"stages": stages, "sources": sources}, "quality": quality}


def boxes(drawn):
    """Height of each box's top edge by its label."""
    found = re.findall(r'<rect x="[^"]*" y="([^"]*)".*?<text [^>]*>([^<]*)<', drawn)
    return {name: float(y) for y, name in found}


def test_stages_stand_below_what_they_depend_on_and_items_are_one_box():
    drawn = lineage_picture.draw(summary(), "lineage")
    heights = boxes(drawn)
    assert list(dict(sorted(heights.items(), key=lambda pair: pair[1]))) == [
        *("collect", "prune", "train", "evaluate", "score")
    ]
    assert len(set(heights.values())) == 5
    assert "train@one, train@two" in drawn
    assert "2 runs" in drawn


def test_an_edge_that_a_longer_way_repeats_is_left_out():
    assert lineage_picture.draw(summary(), "lineage").count("<path") == 4


def test_a_failed_gate_is_seen():
    assert "gate passed" in lineage_picture.draw(summary(), "lineage")
    drawn = lineage_picture.draw(summary(gate=False), "lineage")
    assert "gate failed" in drawn
    assert "var(--bad)" in drawn


def test_it_has_the_same_bytes_again_and_ends_for_a_lock_with_a_cycle():
    assert lineage_picture.draw(summary(), "x") == lineage_picture.draw(summary(), "x")
    cycle = {"a": ["b"], "b": ["a"], "c": ["b"]}
    assert set(boxes(lineage_picture.draw(summary(upstream=cycle), "x"))) == {"a", "b", "c"}
    assert "<path" not in lineage_picture.draw(summary(upstream={}), "x")
