import csv

import pandas as pd
import pytest
from typer.testing import CliRunner

from dualvla.cli import main
from dualvla.errors import UserError
from dualvla.evaluation.judging import knowledge, review
from dualvla.evaluation.judging.commands import app

PICTURES = [b"first", b"middle", b"last"]


@pytest.fixture
def root(tmp_path, case):
    """A knowledge base of three trajectories, the last of a specialist."""
    rows = []
    folder = tmp_path / "kb"
    (folder / "frames").mkdir(parents=True)
    for number in range(3):
        speaks = number < 2
        one = case(number, speaks=speaks)
        rated = {"model": "<b>m</b>", "failures": "", "a": 5, "i": 6}
        rated |= {"r": 7 if speaks else None, "ra": 8 if speaks else None}
        row = knowledge._row(one, rated, [0, 5, 10], PICTURES)
        rows.append(row)
        for name, picture in zip(row["frames"], PICTURES, strict=True):
            (folder / "frames" / name).write_bytes(picture)
    knowledge.write_index(folder, pd.DataFrame(rows))
    review.run(folder)
    return folder


def edit(root, **changes):
    path = root / review.TABLE
    rows = list(csv.DictReader(path.read_text().splitlines()))
    for number, change in changes.items():
        rows[int(number.removeprefix("row"))] |= change
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, review.FIELDS)
        writer.writeheader()
        writer.writerows(rows)


def test_without_a_decision_nothing_changes(root):
    before = knowledge.load(root)
    table, page = ((root / name).read_bytes() for name in (review.TABLE, review.PAGE))
    assert review.run(root).version == before.version
    assert (root / review.TABLE).read_bytes() == table
    assert (root / review.PAGE).read_bytes() == page
    assert b"<b>m</b>" not in page
    assert page.count(b"data:image/jpeg") == 9


def test_accepted_edited_and_dropped_rows_are_taken_over(root):
    before = knowledge.load(root)
    edit(
        root,
        row0={"accept": "yes"},
        row1={"a": "2", "failures": "jerky;dropped", "note": "it shook", "accept": "yes"},
        row2={"accept": "drop"},
    )
    after = review.run(root)
    assert after.version != before.version
    assert after.to_json()["reviewed"] == len(after.index) == 2
    row = after.index.iloc[1]
    assert (row["a"], row["failures"], row["note"]) == (2, "dropped; jerky", "it shook")
    assert len(list((root / "frames").glob("*.jpg"))) == 6
    assert review.run(root).version == after.version
    with pytest.raises(UserError, match=f"@{after.version}"):
        knowledge.load(root, before.version)


MISTAKES = {
    "11": {"a": "11", "accept": "yes"},
    "'x'": {"a": "x", "accept": "yes"},
    "7.5": {"a": "7.5", "accept": "yes"},
    "r is ''": {"r": "", "accept": "yes"},
    "no such failure: tired": {"failures": "tired", "accept": "yes"},
    "accept is 'maybe'": {"accept": "maybe"},
    "edited but not accepted": {"a": "1"},
    "is not in the knowledge base": {"id": "another"},
}


@pytest.mark.parametrize("said", MISTAKES)
def test_a_table_with_a_mistake_changes_nothing(root, said):
    before = knowledge.load(root).version
    edit(root, row0={"accept": "yes"}, row1=MISTAKES[said])
    with pytest.raises(UserError, match=said):
        review.run(root)
    assert knowledge.load(root).version == before


def test_a_specialist_s_empty_ratings_stay_empty(root):
    edit(root, row2={"r": "5", "accept": "yes"})
    with pytest.raises(UserError, match="empty on the specialist scale"):
        review.run(root)


@pytest.mark.parametrize(
    ("content", "said"),
    [("id,a\nx,3\n", "has not the columns"), ('id\n"', "no CSV table"), (b"\xff\xfe\x00", "CSV")],
)
def test_a_damaged_table_is_refused(root, content, said):
    raw = content if isinstance(content, bytes) else content.encode()
    (root / review.TABLE).write_bytes(raw)
    with pytest.raises(UserError, match=said):
        review.run(root)


def test_all_may_not_be_dropped_nor_one_listed_twice(root):
    edit(root, **{f"row{n}": {"accept": "drop"} for n in range(3)})
    with pytest.raises(UserError, match="nothing would be left"):
        review.run(root)
    lines = (root / review.TABLE).read_text().splitlines()
    (root / review.TABLE).write_text("\n".join([*lines, lines[1]]) + "\n")
    with pytest.raises(UserError, match="listed twice"):
        review.run(root)


def test_the_command_says_what_to_write_into_the_parameters(root):
    done = CliRunner().invoke(app, ["review", str(root)])
    assert done.exit_code == 0
    assert f"@{knowledge.load(root).version}" in done.output


def test_a_damaged_base_is_one_line_on_standard_error(root, capsys):
    next((root / "frames").glob("*.jpg")).unlink()
    with pytest.raises(SystemExit) as ended:
        main(lambda: app(["review", str(root)], standalone_mode=False))
    assert ended.value.code == 2
    assert "is missing" in capsys.readouterr().err
