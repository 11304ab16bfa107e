from ablation_page import own

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
