import html.parser
import re
import xml.etree.ElementTree as ET

import pytest
import results_workspace

from dualvla import paths
from dualvla.report import media, page, rendering, summary, svg


@pytest.fixture
def figures(tmp_path, monkeypatch):
    params = results_workspace.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return summary.collect(params)


@pytest.fixture
def rendered(figures, tmp_path):
    return page.html(figures, media.collect(figures["videos"], tmp_path))


class Outline(html.parser.HTMLParser):
    """Open elements, identifiers, and addresses of a page."""

    VOID = ("meta", "br", "img", "link", "input", "hr")

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.sources = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.ids += [named["id"]] if "id" in named else []
        self.links += [named["href"]] if "href" in named else []
        self.sources += [named["src"]] if "src" in named else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_well_formed_and_needs_nothing_outside(rendered):
    outline = Outline(rendered)
    assert outline.open == []
    assert all(source.startswith("data:") for source in outline.sources)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", rendered)
    assert "url(" not in rendered
    assert "@import" not in rendered


def test_every_link_within_the_page_has_a_target(rendered):
    outline = Outline(rendered)
    inner = {link[1:] for link in outline.links if link.startswith("#")}
    assert inner <= set(outline.ids)
    assert len(outline.ids) == len(set(outline.ids))


def test_page_shows_the_rates_with_n_and_interval(rendered, figures):
    for row in figures["success"]:
        assert f"{row['k']}/{row['n']}" in rendered
        assert f"{rendering.percent(row['low'])} to {rendering.percent(row['high'])}" in rendered


def test_verdict_comes_before_any_table(rendered):
    assert rendered.index('class="verdict') < rendered.index("<table")


def test_reported_figures_are_labelled_and_kept_apart(rendered):
    section = rendered[rendered.index('id="reported"') :]
    section = section[: section.index("</section>")]
    assert "(reported)" in section
    assert "not to be set beside" in section
    assert "63.1" in section
    assert "63.1" not in rendered[: rendered.index('id="reported"')]


def test_text_from_results_is_escaped(figures, tmp_path):
    figures["quality"][0]["remarks"] = ["<script>alert(1)</script>"]
    text = page.html(
        figures,
        media.collect([], tmp_path)
        if not figures["videos"]
        else media.collect(figures["videos"], tmp_path),
    )
    assert "<script>" not in text


def test_markdown_tables_have_equal_rows(figures):
    text = page.markdown(figures)
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block
    assert figures["verdict"]["text"] in text


def test_markdown_refers_to_plots_that_are_drawn(figures):
    named = set(re.findall(r"\(plots/(.+?)\.svg\)", page.markdown(figures)))
    assert named == set(page.draw(figures))


def test_plots_are_valid_in_the_page_and_as_files(figures):
    for plot in page.draw(figures).values():
        ET.fromstring(plot)
        ET.fromstring(svg.standalone(plot))
        assert "nan" not in plot


def test_page_stands_without_lock_videos_gates_times_and_episodes(figures, tmp_path):
    figures |= {"videos": [], "quality": [], "timings": [], "training": []}
    figures["demonstrations"] = {"source": None, "values": {}}
    figures["events"] |= {"source": None, "rows": []}
    for error in (e for row in figures["diagnosis"] for e in row["errors"]["all"].values() if e):
        error |= {"low": None, "high": None}  # one held-out episode
    figures["lineage"]["stages"] = []
    for row in figures["lineage"]["sources"]:
        row["stage"] = None
    for row in figures["success"]:
        if row["task"] == "stack":
            row |= {"k": 0, "n": 0, "rate": None, "low": 0.0, "high": 1.0}
    for row in figures["comparisons"]:
        if row["task"] == "stack":
            row |= {"n": 0, "difference": None, "low": -1.0, "high": 1.0, "winner": None}
    text = page.html(figures, media.collect([], tmp_path))
    assert "no episodes" in text
    assert "lineage-none" in Outline(text).ids
    page.markdown(figures)


def test_videos_beyond_the_cap_are_copied_and_linked(figures, tmp_path):
    size = len(results_workspace.VIDEO)
    shown = media.collect(figures["videos"], tmp_path, cap=2 * size)
    embedded = [a for a in shown.videos.values() if a.startswith("data:video/mp4;base64,")]
    assert len(embedded) == 2
    linked = set(shown.videos.values()) - set(embedded)
    assert all((tmp_path / address).read_bytes() == results_workspace.VIDEO for address in linked)
    assert len(linked) == 14


def test_videos_of_one_start_stand_side_by_side(figures):
    first = [(row["model"], row["file"]) for row in figures["videos"][:4]]
    place = paths.EVALUATION.as_posix()
    expected = [(m, f"{place}/{m}/videos/carrot-00.mp4") for m in results_workspace.MODELS]
    assert first == expected
