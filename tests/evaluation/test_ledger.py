import sqlite3

import pandas as pd
import pytest

from dualvla.evaluation import ledger
from dualvla.evaluation.simpler import Kept

KEY = ("official", "carrot", "official-00")


def kept(success=True):
    row = {"starts": "official", "last_step": success, "error": None, "steps": 3}
    steps = pd.DataFrame({"step": [0, 1], "text": pd.Series([None, "up"], dtype="string")})
    return Kept(row, steps, 0.25)


def test_what_is_added_is_there_when_it_is_opened_again(tmp_path):
    with ledger.opened(tmp_path / "a" / "ledger.sqlite") as book:
        assert book.identity() is None
        book.begin({"policy": "expert"})
        book.add(KEY, kept())
    with ledger.opened(tmp_path / "a" / "ledger.sqlite") as book:
        assert book.identity() == {"policy": "expert"}
        assert book.keys() == {KEY}
        found = book.get(KEY)
    assert found.row == kept().row
    assert found.seconds == 0.25
    pd.testing.assert_frame_equal(found.steps, kept().steps)


def test_an_episode_is_never_counted_twice(tmp_path):
    with ledger.opened(tmp_path / "ledger.sqlite") as book:
        book.add(KEY, kept())
        with pytest.raises(sqlite3.IntegrityError):
            book.add(KEY, kept(False))
        assert book.get(KEY).row["last_step"] is True


def test_another_evaluation_starts_anew(tmp_path):
    with ledger.opened(tmp_path / "ledger.sqlite") as book:
        book.begin({"policy": "expert"})
        book.add(KEY, kept())
        book.begin({"policy": "random"})
        assert book.keys() == set()


def test_a_forgotten_episode_is_not_done(tmp_path):
    with ledger.opened(tmp_path / "ledger.sqlite") as book:
        book.add(KEY, kept())
        book.forget(KEY)
        with pytest.raises(KeyError):
            book.get(KEY)
