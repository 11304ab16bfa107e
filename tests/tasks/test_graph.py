from pathlib import Path

import pytest

from tasks import graph

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("pipeline", "own"), [("dvc.yaml", "report"), ("ablation/dvc.yaml", "ablation")]
)
def test_a_graph_is_read_from_anywhere_and_ends_in_its_report(pipeline, own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    found = graph.read(ROOT, pipeline)
    assert list(found)[-1] == own
    assert "specialist" in found
    assert all(set(upstreams) <= set(list(found)[:i]) for i, upstreams in enumerate(found.values()))
