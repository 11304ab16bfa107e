"""Aliases move by compare-and-swap on a real S3 server."""

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from dualvla.errors import UserError
from dualvla.store import aliases, client, versions

PROCESSES, THREADS = 4, 16
# Every racer has read the alias before any of them writes: they wait for a file.
RACER = """
import json, sys, threading, time
from pathlib import Path
from dualvla.store import aliases
from dualvla.store.client import Place
from dualvla.store.keys import Keys

told = json.loads(sys.argv[1])
where = Place(**{**told["place"], "keys": Keys(**told["place"]["keys"])})
ready, start = Path(told["folder"]) / f"ready-{told['number']}", Path(told["folder"]) / "start"
gate = threading.Barrier(told["threads"] + 1)
outcomes = []

def race(number):
    seen = aliases.read(where, "m", "production")
    gate.wait()
    gate.wait()
    try:
        aliases.move(where, seen, f"v{number}", action="promote", who=str(number))
        outcomes.append([number, "won"])
    except aliases.MovedError as error:
        outcomes.append([number, str(error)])

first = told["number"] * told["threads"]
threads = [threading.Thread(target=race, args=(first + n,)) for n in range(told["threads"])]
for thread in threads:
    thread.start()
gate.wait()
ready.touch()
while not start.exists():
    time.sleep(0.01)
gate.wait()
for thread in threads:
    thread.join()
print(json.dumps(outcomes))
"""


@pytest.fixture
def published(where):
    """A function that makes versions v0, v1, ... of the model m."""

    def publish(count: int):
        s3 = client.connect(where)
        for number in range(count):
            manifest = {"schema": 1, "version": f"registry/m/v{number}", "about": {}, "files": {}}
            versions.put_json(s3, where, f"registry/m/v{number}/manifest.json", manifest)
        return where

    return publish


def point(where, version, action="promote"):
    return aliases.move(where, aliases.read(where, "m", "production"), version, action=action)


def test_an_alias_keeps_who_moved_it_from_where_to_where(published):
    where = published(2)
    assert aliases.read(where, "m", "production").version is None
    point(where, "v0")
    now = aliases.move(
        where, aliases.read(where, "m", "production"), "v1", action="promote", who="ann", why="d"
    )
    assert now.version == "v1"
    last = now.history[-1]
    assert (last["who"], last["from"], last["to"], last["why"]) == ("ann", "v0", "v1", "d")
    assert len(now.history) == 2


@pytest.mark.parametrize("set_before", [False, True])
def test_whoever_decided_on_an_older_state_is_told_and_changes_nothing(published, set_before):
    where = published(3)
    if set_before:
        point(where, "v0")
    seen = aliases.read(where, "m", "production")
    aliases.move(where, seen, "v1", who="ann")
    with pytest.raises(aliases.MovedError, match="production was moved to v1 by ann"):
        aliases.move(where, seen, "v2", who="bob")
    assert aliases.read(where, "m", "production").version == "v1"


def test_rollback_takes_promotions_back_one_by_one(published):
    where = published(4)
    for version in ("v0", "v1", "v2"):
        point(where, version)
    assert aliases.rollback(where, "m").version == "v1"
    assert aliases.rollback(where, "m", why="worse still").version == "v0"
    with pytest.raises(UserError, match="no earlier version"):
        aliases.rollback(where, "m")
    point(where, "v3")
    assert aliases.rollback(where, "m").version == "v0"
    assert aliases.rollback(where, "m", to="v2").version == "v2"
    with pytest.raises(UserError, match="v9 never was production"):
        aliases.rollback(where, "m", to="v9")


def test_what_was_not_published_and_what_is_no_alias_are_refused(published):
    where = published(1)
    with pytest.raises(UserError, match="no such version"):
        point(where, "v7")
    with pytest.raises(UserError, match="no alias staging"):
        aliases.read(where, "m", "staging")


@pytest.mark.slow
@pytest.mark.parametrize("set_before", [False, True])
def test_of_64_racing_promotions_one_wins_and_the_alias_is_whole(published, tmp_path, set_before):
    racers = PROCESSES * THREADS
    where = published(racers)
    if set_before:
        point(where, "v0")
    told = {"place": asdict(where), "folder": str(tmp_path), "threads": THREADS}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, json.dumps({**told, "number": number})],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    try:
        while not all((tmp_path / f"ready-{n}").exists() for n in range(PROCESSES)):
            assert all(child.poll() is None for child in children), "a racer died"
        (tmp_path / "start").touch()
        answers = [child.communicate(timeout=120)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    outcomes = dict(pair for answer in answers for pair in json.loads(answer))
    assert len(outcomes) == racers
    winners = [number for number, outcome in outcomes.items() if outcome == "won"]
    assert len(winners) == 1
    now = aliases.read(where, "m", "production")
    assert now.version == f"v{winners[0]}"
    assert len(now.history) == 1 + set_before
    assert now.history[-1]["who"] == str(winners[0])
    for number, outcome in outcomes.items():
        assert number in winners or f"production was moved to {now.version} by" in outcome
    # The bucket keeps every state that the object ever had: no other was written.
    key = aliases.key("m", "production")
    states = client.connect(where).list_object_versions(Bucket=where.bucket, Prefix=key)["Versions"]
    assert len(states) == 1 + set_before
