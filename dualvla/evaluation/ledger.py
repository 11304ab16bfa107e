"""What an evaluation has finished so far: one SQLite file, one row an episode.

An episode costs seconds and a run hours, so each is kept the moment it ends. SQLite's transaction
is the unit: after a kill -9 an episode is there whole or not at all, and its key rules out a second
copy. The file belongs to one evaluation of one policy by one code; anything else in it would
mix two experiments, so another identity starts anew or is refused by the caller.
"""

import contextlib
import io
import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from dualvla.evaluation.simpler import Kept

Key = tuple[str, str, str]  # protocol.Planned.key

_TABLES = """
create table if not exists identity (text text not null);
create table if not exists episodes (
  starts text, task text, start_id text, row text not null, steps blob not null,
  seconds real not null, primary key (starts, task, start_id)
);
"""


class Ledger:
    """Finished episodes of one evaluation."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def identity(self) -> dict[str, Any] | None:
        """What the episodes belong to; None in a new ledger."""
        found = self._connection.execute("select text from identity").fetchone()
        return None if found is None else json.loads(found[0])

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Forget everything and belong to another evaluation."""
        with self._connection:
            self._connection.execute("delete from episodes")
            self._connection.execute("delete from identity")
            text = json.dumps(identity, sort_keys=True)
            self._connection.execute("insert into identity values (?)", (text,))

    def keys(self) -> set[Key]:
        """Episodes that are done."""
        found = self._connection.execute("select starts, task, start_id from episodes")
        return {(starts, task, start) for starts, task, start in found}

    def add(self, key: Key, kept: Kept) -> None:
        """Keep an episode.

        Raises:
            sqlite3.IntegrityError: it is there already.
        """
        stream = io.BytesIO()
        kept.steps.to_parquet(stream, index=False)
        values = (*key, json.dumps(kept.row), stream.getvalue(), kept.seconds)
        with self._connection:
            self._connection.execute("insert into episodes values (?, ?, ?, ?, ?, ?)", values)

    def forget(self, key: Key) -> None:
        """Drop an episode, to run it again."""
        with self._connection:
            self._connection.execute(
                "delete from episodes where starts = ? and task = ? and start_id = ?", key
            )

    def get(self, key: Key) -> Kept:
        """An episode; a `KeyError` if it is not done."""
        found = self._connection.execute(
            "select row, steps, seconds from episodes "
            "where starts = ? and task = ? and start_id = ?",
            key,
        ).fetchone()
        if found is None:
            raise KeyError(key)
        row, steps, seconds = found
        return Kept(json.loads(row), pd.read_parquet(io.BytesIO(steps)), seconds)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Ledger]:
    """Open a ledger, made if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    try:
        connection.executescript(_TABLES)
        yield Ledger(connection)
    finally:
        connection.close()
