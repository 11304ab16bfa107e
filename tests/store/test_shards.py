"""Shards in a real bucket: offered, ingested or refused once, whatever is killed in between."""

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import offered_shards
import pytest

from dualvla import config, files, ingestion, paths
from dualvla.data import lerobot
from dualvla.errors import UserError
from dualvla.stages import demonstrations
from dualvla.store import client, shards
from dualvla.store.keys import CREDENTIALS

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
SCRIPT = """
import os, signal, sys
from pathlib import Path
from test_shards import ingest_all, params, place
left = [int(sys.argv[3])]
where = place(sys.argv[1], sys.argv[2])
def count(**_):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
from dualvla.store import client
client.connect(where).meta.events.register("before-call.s3.PutObject", count)
ingest_all(where, Path(sys.argv[4]), params(sys.argv[1]))
"""


def params(bucket: str) -> config.Params:
    patch = {
        "simulation": {"image_size": offered_shards.SIZE},
        "demonstrations": {"source": "incoming"},
        "store": {"bucket": bucket},
    }
    return config.parse(config.merge(config.read_yaml(REPOSITORY / "params.yaml"), patch))


def place(bucket: str, root) -> client.Place:
    where = client.place(params(bucket).store, Path(root))
    client.check(where, create=True)
    return where


def ingest_all(where, cache, settings) -> list[ingestion.Outcome]:
    cache.mkdir(parents=True, exist_ok=True)
    offered, _ = shards.offers(where)
    fresh = ingestion.waiting(shards.read_index(where), offered)
    return [ingestion.ingest(where, offer, settings, cache) for offer in fresh]


@pytest.fixture
def bucket(s3_root, request):
    """A function that makes buckets with the same three offers, one of them bad."""
    made = []

    def make(folder):
        name = f"s{os.getpid()}-{len(request.node.name)}-{len(made)}"
        where = place(name, s3_root)
        made.append(where)
        for seed, name in enumerate(["a", "bad", "c"]):
            root = folder / name
            if not root.exists():
                offered_shards.write(root, seed)
                if name == "bad":
                    offered_shards.truncate(root)
            offered_shards.offer(where, root, name)
        return where

    return make


def keys(where) -> set[str]:
    listed = client.connect(where).list_objects_v2(Bucket=where.bucket)["Contents"]
    return {one["Key"] for one in listed}


def test_a_killed_ingestion_ends_as_an_undisturbed_one(bucket, s3_root, tmp_path):
    undisturbed = bucket(tmp_path / "offered")
    found = ingest_all(undisturbed, tmp_path / "cache", params(undisturbed.bucket))
    assert [one.verdict for one in found] == ["ingested", "quarantined", "ingested"]
    assert ingest_all(undisturbed, tmp_path / "cache", params(undisturbed.bucket)) == []
    one_shard = len([key for key in keys(undisturbed) if f"/{found[0].sha256}/" in key])
    killed = bucket(tmp_path / "offered")
    # About in the middle of an upload, before the index, and between report and index.
    for puts in (3, one_shard - 3, 3):
        command = [sys.executable, "-c", SCRIPT, killed.bucket, str(s3_root), str(puts)]
        done = subprocess.run(
            [*command, str(tmp_path / "other")],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
            },
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
    ingest_all(killed, tmp_path / "other", params(killed.bucket))
    index = shards.read_index(killed)
    whole = shards.read_index(undisturbed)
    assert {name: one["sha256"] for name, one in index["seen"].items()} == {
        name: one["sha256"] for name, one in whole["seen"].items()
    }
    assert (index["ingested"], index["quarantined"]) == (whole["ingested"], whole["quarantined"])
    assert keys(killed) == keys(undisturbed)


def test_the_stage_trains_on_what_was_ingested(bucket, s3_root, tmp_path, monkeypatch):
    where = bucket(tmp_path / "offered")
    settings = params(where.bucket)
    ingest_all(where, tmp_path / "cache", settings)
    (tmp_path / "work" / ".dualvla").mkdir(parents=True)
    shutil.copy(s3_root / CREDENTIALS, tmp_path / "work" / CREDENTIALS)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("DUALVLA_CACHE", raising=False)
    assert ingestion.take_up(where, tmp_path / "work") == 2
    demonstrations.main(settings)
    assert len(lerobot.open_dataset(paths.DEMONSTRATIONS).episodes) == 2
    assert files.read_json(paths.DEMONSTRATIONS / "metrics.json") == {
        "source": "incoming",
        "shards": 2,
        "episodes": 2,
        "frames": 58,
        "repeated": 0,
    }
    # What is damaged on this disk is not trained on, and the next run brings it anew.
    before = files.sha256(paths.DEMONSTRATIONS)
    path = next((tmp_path / "work/.cache/incoming").rglob("info.json"))
    path.write_text("{}")
    with pytest.raises(UserError, match="differs from its sum"):
        demonstrations.main(settings)
    demonstrations.main(settings)
    assert files.sha256(paths.DEMONSTRATIONS) == before


def test_watchers_that_write_at_once_lose_nothing(s3_root):
    where = place(f"r{os.getpid()}", s3_root)

    def add(number: int) -> None:
        shards.record(where, lambda index: index["ingested"].update({str(number): {}}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(16)))
    assert set(shards.read_index(where)["ingested"]) == {str(number) for number in range(16)}


def test_odd_names_and_half_uploads_hurt_nobody(s3_root, tmp_path):
    where = place(f"o{os.getpid()}", s3_root)
    put = client.connect(where).put_object
    half = offered_shards.write(tmp_path / "half", 0)
    offered_shards.offer(where, half, "half")
    client.connect(where).delete_object(
        Bucket=where.bucket, Key=f"{shards.OFFERED}/half/{shards.LAST}"
    )
    for name in ("meta/info.json", "data", "data/x"):
        put(Bucket=where.bucket, Key=f"{shards.OFFERED}/clash/{name}", Body=b"{}")
    put(Bucket=where.bucket, Key=f"{shards.OFFERED}/list/meta/info.json", Body=b"[]")
    offered, strays = shards.offers(where)
    assert [offer.key.rpartition("/")[2] for offer in offered] == ["clash", "list"]
    assert strays == len([path for path in half.rglob("*") if path.is_file()]) - 1
    names = {"../../x": "leaves", str(tmp_path / "x"): "leaves", "a/" + 256 * "y": "no file can"}
    for name, says in (names | {"z\0": "no file can"}).items():
        odd = shards.Offer(f"{shards.OFFERED}/clash", (name,), 1, "0" * 64)
        with pytest.raises(UserError, match=says):
            shards.bring(where, odd, tmp_path / "brought")
    assert not (tmp_path / "x").exists()
    found = ingest_all(where, tmp_path / "cache", params(where.bucket))
    assert [one.verdict for one in found] == ["quarantined", "quarantined"]
    assert all(str(tmp_path) not in one.remark for one in found)
