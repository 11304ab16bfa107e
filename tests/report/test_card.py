import pytest
import results_workspace
import yaml

from dualvla.errors import UserError
from dualvla.report import card, summary


@pytest.fixture
def results(tmp_path, monkeypatch):
    params = results_workspace.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return summary.collect(params), params


def test_metadata_is_what_model_hubs_read(results):
    _, head, _ = card.render("dualvla", *results).split("---\n", 2)
    data = yaml.safe_load(head)
    assert data["pipeline_tag"] == "robotics"
    assert data["license"] == "apache-2.0"
    assert "base_model" not in data
    entry = data["model-index"][0]["results"][0]
    assert entry["metrics"][0]["type"] == "success_rate"
    assert "generated assets" in entry["dataset"]["name"]


def test_every_rate_of_the_model_stands_with_n_and_interval(results):
    text = card.render("dualvla", *results, version="v3")
    assert text.split("---\n", 2)[2].lstrip().startswith("# dualvla dualvla v3")
    for row in results[0]["success"]:
        if row["model"] == "dualvla":
            assert f"| {row['k']}/{row['n']} |" in text
    assert "may not be set beside published results" in text
    assert "evaluate@dualvla" in text


def test_cost_is_of_the_stages_that_led_to_the_model(results):
    text = card.render("dualvla", *results).split("## Cost\n")[1].split("## Lineage")[0]
    assert "1 of the 7 stages" in text  # the specialist's time is not among them
    assert "0.114 hours one stage after the other; 0.194 CPU hours" in text
    assert "energy not measured" in text
    assert "| demonstrations | 411 | 699 |" in text


def test_an_unknown_model_is_refused(results):
    with pytest.raises(UserError, match="no model scene_only"):
        card.render("scene_only", *results)
