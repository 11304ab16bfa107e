"""S3 that goes away, and disks that are full, in the middle of a transfer."""

import dataclasses
import json
import os
import random
import subprocess
import sys

import fault_proxy
import pytest

from dualvla.errors import OutageError, UserError
from dualvla.store import client, outages, transfers, versions


def through(proxy, where):
    return dataclasses.replace(where, endpoint=proxy.url)


@pytest.mark.slow
def test_a_server_gone_in_the_middle_is_one_line_and_the_next_try_sends_what_is_missing(
    where, tmp_path
):
    big = tmp_path / "big"
    big.write_bytes(random.Random(0).randbytes(5 * transfers.PART + 1))
    gone = []

    def leave(seen):
        if seen.part == 3:
            gone.append(True)
        return "cut" if gone else None

    with fault_proxy.running(where.endpoint, leave) as proxy:
        place = through(proxy, where)
        with pytest.raises(OutageError, match="S3 does not answer") as caught, outages.told(place):
            versions.publish(place, "retrain/1", {"big": big}, {})
    assert str(caught.value).endswith(outages.AGAIN)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.exit_code == 1
    assert versions.read_manifest(where, "retrain/1") is None
    with fault_proxy.running(where.endpoint) as proxy:
        assert versions.publish(through(proxy, where), "retrain/1", {"big": big}, {}).new
    assert 3 in {seen.part for seen in proxy.seen}
    assert 1 <= len({seen.part for seen in proxy.seen if seen.part}) < 6
    assert versions.verify(where, "retrain/1") == 1


def test_a_failing_server_is_an_outage_and_a_refusal_is_not(where):
    with fault_proxy.running(where.endpoint, lambda _: "503") as proxy:
        place = through(proxy, where)
        with pytest.raises(OutageError, match="S3 answers SlowDown"), outages.told(place):
            client.connect(place, attempts=1).list_objects_v2(Bucket=where.bucket)
    with pytest.raises(UserError, match="S3 answers NoSuchBucket") as caught, outages.told(where):
        client.connect(where).list_objects_v2(Bucket="none-such")
    assert not isinstance(caught.value, OutageError)


PULL = """
import json, sys
from pathlib import Path
from dualvla import cli
from dualvla.store import versions
from dualvla.store.client import Place
from dualvla.store.keys import Keys

told = json.loads(sys.argv[1])
where = Place(**{**told, "keys": Keys(**told["keys"])})
cli.main(lambda: print("read", versions.pull(where, "retrain/1", Path(sys.argv[2]))[1]))
"""
# A small disk in name spaces of its own, which need no rights where the kernel allows them.
SMALL = 'mount -t tmpfs -o size={size} none "$0"'


def on_a_small_disk(script: str, disk, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, str(disk), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk"
    path.mkdir()
    try:
        answer = on_a_small_disk(SMALL.format(size="1m"), path)
    except FileNotFoundError:
        pytest.skip("no unshare")
    if answer.returncode:
        pytest.skip(f"no small disk here: {answer.stderr}")
    return path


@pytest.mark.slow
def test_a_pull_to_a_full_disk_says_so_and_goes_on_with_more_space(where, tmp_path, disk):
    contents = {}
    for name in ("a", "b"):
        contents[name] = tmp_path / name
        contents[name].write_bytes(os.urandom(3 * 2**20))
    versions.publish(where, "retrain/1", contents, {})
    pull = f'"{sys.executable}" -c "$1" "$2" "$0/out"'
    more = 'ls -A "$0"; mount -o remount,size=20m "$0"'
    script = f"{SMALL.format(size='4m')}; {pull}; echo code $?; {more}; {pull}; echo code $?"
    answer = on_a_small_disk(script, disk, PULL, json.dumps(dataclasses.asdict(where)))
    assert answer.stderr.splitlines() == [f"error: {disk}/out: disk full -> free some space"]
    first, left, read, second = answer.stdout.splitlines()
    assert (first, left, second) == ("code 2", ".out.pull", "code 0")
    assert 0 < int(read.removeprefix("read ")) < 4 * 2**20, "the whole file was not read again"
