"""The watch flow: real S3 as the trainer sees it, real Prefect server, real gate."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import offered_shards
import prefect
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from dualvla import config, files, stack
from dualvla.store import client, keys, shards, versions

pytestmark = pytest.mark.slow

GOOD = [f"good-{number:02d}" for number in range(17)]
BAD = {
    "truncated": (offered_shards.truncate, "damaged or no Parquet file"),
    "nan": (offered_shards.put_nan, "episode 0, frame 3: action.z is missing or NaN"),
    "convention": (offered_shards.change_convention, "convention_matches"),
}


@pytest.fixture
def watched(project, servers, tmp_path):
    """Twenty shards in a bucket, three of them spoilt, and a deployment that retrains."""
    project.patch(
        simulation={"image_size": offered_shards.SIZE}, demonstrations={"source": "incoming"}
    )
    place = client.place(config.load(project.root / "params.yaml").store, project.root)
    client.check(place, create=True)
    sums = {}
    for seed, name in enumerate([*GOOD, *BAD]):
        root = offered_shards.write(tmp_path / "offered" / name, seed)
        if name in BAD:
            BAD[name][0](root)
        sums[name] = files.sha256(root)
        offered_shards.offer(place, root, name)
    api = f"{stack.status(servers)['prefect'][0]}/api"
    deployment = f"nightly-{project.root.parent.name}"
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as server:
        flow = server.create_flow(prefect.Flow(lambda: None, name="retrain"))
        server.create_deployment(flow, deployment, enforce_parameter_schema=False)
    return SimpleNamespace(
        project=project,
        where=place,
        sums=sums,
        deployment=f"retrain/{deployment}",
        environment={
            **os.environ,
            **stack.environment(servers),
            keys.VARIABLE: "trainer",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
    )


def watch(watched) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flows.watch", "--root", str(watched.project.root)]
    return subprocess.Popen(
        [*command, "--retrain", watched.deployment],
        cwd=watched.project.root,
        env=watched.environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def objects(where) -> dict[str, tuple[str, str]]:
    """ETag and time of every object, by key."""
    pages = client.connect(where).get_paginator("list_objects_v2").paginate(Bucket=where.bucket)
    listed = [one for page in pages for one in page["Contents"]]
    return {one["Key"]: (one["ETag"], str(one["LastModified"])) for one in listed}


def test_twenty_shards_of_which_three_are_bad(watched, prefect_api):
    where = watched.where

    # Killed in the middle, and again: nothing lost.
    flow = watch(watched)
    try:
        while len(shards.read_index(where)["seen"]) < 4:
            assert flow.poll() is None, flow.communicate()[1]
    finally:
        flow.kill()
        flow.communicate()
    flow = watch(watched)
    _, said = flow.communicate()
    assert flow.returncode == 0, said

    index = shards.read_index(where)
    assert set(index["ingested"]) == {watched.sums[name] for name in GOOD}
    assert set(index["quarantined"]) == {watched.sums[name] for name in BAD}
    for name, (_, reason) in BAD.items():
        entry = index["quarantined"][watched.sums[name]]
        assert reason in "; ".join(entry["reasons"])
        prefix = entry["report"].removesuffix("/report.html")
        assert prefix == f"quarantine/{name}-{watched.sums[name][:12]}"
        report, _ = versions.get_json(client.connect(where), where, f"{prefix}/report.json")
        assert report["reasons"] == entry["reasons"]
    for name in GOOD:
        versions.verify(where, f"{shards.INGESTED}/{watched.sums[name]}")

    # Again: not an object is written, no second retrain is asked for.
    before = objects(where)
    flow = watch(watched)
    _, said = flow.communicate()
    assert flow.returncode == 0, said
    assert objects(where) == before
    wanted = {"deployments": {"name": {"any_": [watched.deployment.partition("/")[2]]}}}
    (asked,) = prefect_api("/flow_runs/filter", wanted)
    assert asked["parameters"] == {"profile": None}

    # The same content under another name is known; a mended shard is ingested.
    offered = watched.project.root.parent / "offered"
    offered_shards.offer(where, offered / GOOD[0], "copy")
    shutil.rmtree(offered / "nan")
    offered_shards.offer(where, offered_shards.write(offered / "nan", 100), "nan")
    flow = watch(watched)
    _, said = flow.communicate()
    assert flow.returncode == 0, said
    after = shards.read_index(where)
    assert after["ingested"].keys() - index["ingested"] == {files.sha256(offered / "nan")}
    assert after["seen"][f"{shards.OFFERED}/copy"]["sha256"] == watched.sums[GOOD[0]]
    assert len(prefect_api("/flow_runs/filter", wanted)) == 2
