"""README's rates are those of the single outcomes that stand beside the ablation's page."""

from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[2]


def counted():
    table = pd.read_csv(ROOT / "docs/benchmarks/ablation-episodes.csv", dtype=str)
    table["budget"] = table["run"].str.rsplit("-", n=1).str[0].replace("start", "-")
    table["k"] = table["outcomes"].str.count("1")
    table["n"] = table["outcomes"].str.count("[01]")
    return table.groupby(["budget", "model", "starts"])[["k", "n"]].sum()


def test_the_rates_in_readme_are_those_of_the_outcomes():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = text.split("<!-- results:begin", 1)[1].split("<!-- results:end", 1)[0].split("\n")
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    found = counted()
    head, told = rows[0], rows[1:]
    places = {name.removesuffix(" starts"): at for at, name in enumerate(head) if "starts" in name}
    assert set(places) == set(found.index.get_level_values("starts"))
    assert len(told) * len(places) == len(found)
    for row in told:
        for starts, at in places.items():
            k, n = found.loc[(row[0], row[1], starts)]
            rate, _, counts = row[at].replace(", ", ",").split(" ")
            assert counts == f"{k}/{n}"
            assert rate == f"{100 * k / n:.1f}"
