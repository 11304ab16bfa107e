"""Transfers that are killed, cut and refused, against a real S3 server."""

import dataclasses
import json
import os
import random
import subprocess
import sys

import fault_proxy
import pytest

from dualvla import files
from dualvla.store import aliases, client, transfers, versions

UPLOADER = """
import json, sys
from pathlib import Path
from dualvla.store import versions
from dualvla.store.client import Place
from dualvla.store.keys import Keys

told = json.loads(sys.argv[1])
where = Place(**{**told["place"], "keys": Keys(**told["place"]["keys"])})
versions.publish(where, "retrain/1", {"big": Path(told["file"])}, {})
"""
PARTS = 6


@pytest.fixture
def big(tmp_path):
    path = tmp_path / "big"
    path.write_bytes(random.Random(0).randbytes((PARTS - 1) * transfers.PART + 12345))
    return path


def through(proxy, where):
    return dataclasses.replace(where, endpoint=proxy.url)


def parts(proxy) -> list[int]:
    return sorted(seen.part for seen in proxy.seen if seen.part)


@pytest.mark.slow
def test_after_kill_9_only_the_missing_parts_are_sent(where, big):
    def hold_after_some(seen):
        return "hold" if seen.part and seen.part > 4 else None

    with fault_proxy.running(where.endpoint, hold_after_some) as proxy:
        told = {"place": dataclasses.asdict(through(proxy, where)), "file": str(big)}
        child = subprocess.Popen([sys.executable, "-c", UPLOADER, json.dumps(told)])
        try:
            while not stored(where, "retrain/1/big", 4):
                assert child.poll() is None, "the upload ended by itself"
        finally:
            child.kill()
            child.wait()
    assert versions.read_manifest(where, "retrain/1") is None
    with fault_proxy.running(where.endpoint) as proxy:
        assert versions.publish(through(proxy, where), "retrain/1", {"big": big}, {}).new
    assert parts(proxy) == [5, 6]
    assert versions.verify(where, "retrain/1") == 1


def stored(where, key, count) -> bool:
    s3 = client.connect(where)
    found = s3.list_multipart_uploads(Bucket=where.bucket, Prefix=key).get("Uploads", [])
    sent = [
        s3.list_parts(Bucket=where.bucket, Key=key, UploadId=one["UploadId"]).get("Parts", [])
        for one in found
    ]
    return any(len(one) == count for one in sent)


def test_what_is_there_is_not_sent_again(where, big, tmp_path):
    (tmp_path / "small").write_text("x")
    s3 = client.connect(where)
    transfers.upload(s3, where, "retrain/1/big", big, files.sha256(big))
    with fault_proxy.running(where.endpoint) as proxy:
        contents = {"big": big, "small": tmp_path / "small"}
        assert versions.publish(through(proxy, where), "retrain/1", contents, {}).new
    sent = [seen.key.rpartition("/")[2] for seen in proxy.seen if seen.method == "PUT"]
    assert sorted(sent) == ["manifest.json", "small"]


def test_parts_of_another_file_are_not_gone_on_with(where, big):
    s3 = client.connect(where)
    begun = s3.create_multipart_upload(Bucket=where.bucket, Key="x/big")["UploadId"]
    other = os.urandom(transfers.PART)
    s3.upload_part(Bucket=where.bucket, Key="x/big", UploadId=begun, PartNumber=1, Body=other)
    sent = transfers.upload(s3, where, "x/big", big, files.sha256(big))
    assert sent == big.stat().st_size
    assert transfers.sum_of(s3, where.bucket, "x/big") == files.sha256(big)


def test_an_upload_begun_for_a_file_with_the_same_first_parts_ends_as_ours(where, big, tmp_path):
    s3, part = client.connect(where), transfers.PART
    begun = s3.create_multipart_upload(
        Bucket=where.bucket, Key="x/big", ChecksumAlgorithm="SHA256", Metadata={"sha256": "other"}
    )["UploadId"]
    s3.upload_part(
        Bucket=where.bucket,
        Key="x/big",
        UploadId=begun,
        PartNumber=1,
        Body=big.read_bytes()[:part],
        ChecksumAlgorithm="SHA256",
    )
    transfers.upload(s3, where, "x/big", big, files.sha256(big))
    assert transfers.is_there(s3, where, "x/big", files.sha256(big), big.stat().st_size)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_one_request_in_ten_may_fail_in_any_way(where, big, tmp_path, seed):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.bin").write_bytes(os.urandom(1000 + number))
    contents = {"big": big, "many": folder}
    with fault_proxy.running(where.endpoint, fault_proxy.seeded(0.1, seed)) as proxy:
        place = through(proxy, where)
        assert versions.publish(place, "registry/m/v1", contents, {}).new
        assert versions.pull(place, "registry/m/v1", tmp_path / "out")[0] == 41
        for _ in range(5):
            aliases.move(place, aliases.read(place, "m", "production"), "v1", action="promote")
    assert versions.verify(where, "registry/m/v1") == 41
    assert files.sha256(tmp_path / "out/big") == files.sha256(big)
    assert files.sha256(tmp_path / "out/many") == files.sha256(folder)
    assert len(aliases.read(where, "m", "production").history) == 5
    assert sum(proxy.faults.values()) > 0.05 * len(proxy.seen)
    assert set(proxy.faults) == set(fault_proxy.FAULTS)
