import pandas as pd
from ablation_page import outcomes, own

SUMMARY = {"success": [{"model": name} for name in ("specialist", "generalist", "dualvla")]}


def timing(stage, **selection):
    return {"stage": stage, "selection": selection}


def test_the_cost_of_an_ablation_is_its_own_stages_and_what_they_build_on():
    mine = [
        timing("specialist"),
        timing("generalist", run="short-0"),
        timing("distill", arm="dualvla", run="short-0"),
        timing("evaluate", model="specialist", run="start-0"),
        timing("ablation"),
    ]
    others = [
        timing("generalist"),  # of a nightly run in the same workspace
        timing("evaluate", model="dualvla"),
        timing("report"),
        timing("distill", arm="qa_only", run="short-0"),  # of an arm that was left out since
    ]
    assert [own(one, SUMMARY) for one in mine + others] == [True] * 5 + [False] * 4


def test_single_outcomes_are_a_mark_a_start_in_the_order_of_the_protocol():
    rows = [
        ("official", "stack", "ok", True),
        ("official", "stack", "error", None),
        ("official", "spoon", "ok", False),
        ("shifted", "stack", "ok", False),
        ("shifted", "stack", "ok", True),
    ]
    table = pd.DataFrame(rows, columns=["starts", "task", "status", "last_step"])
    table = table.astype({"last_step": "boolean", "starts": "string", "task": "string"})
    assert list(outcomes(table, "last_step")) == [
        ("official", "stack", "1x"),
        ("official", "spoon", "0"),
        ("shifted", "stack", "01"),
    ]
