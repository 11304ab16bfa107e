"""Published versions against a real S3 server."""

import dataclasses

import pytest

from dualvla import config
from dualvla.errors import UserError
from dualvla.store import client, versions
from dualvla.store.keys import Keys


@pytest.fixture
def where(s3_root, request):
    bucket = "v" + "".join(c for c in request.node.name if c.isalnum())[:40].lower()
    store = config.Store(endpoint=None, bucket=bucket, region="us-east-1")
    place = client.place(store, s3_root)
    client.check(place, create=True)
    return place


@pytest.fixture
def contents(tmp_path):
    folder = tmp_path / "models" / "dualvla"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40_000)  # multipart
    (folder / "config.json").write_text("{}")
    (tmp_path / "report.md").write_text("# report")
    return {"models/dualvla": folder, "report.md": tmp_path / "report.md"}


def test_a_version_is_complete_and_verified(where, contents):
    done = versions.publish(where, "retrain/1", contents, {"profile": "test"})
    assert (done.new, done.files) == (True, 3)
    manifest = versions.read_manifest(where, "retrain/1")
    assert set(manifest["files"]) == {
        "models/dualvla/config.json",
        "models/dualvla/model.safetensors",
        "report.md",
    }
    assert versions.verify(where, "retrain/1") == 3


def test_the_same_version_is_not_published_twice(where, contents):
    versions.publish(where, "retrain/1", contents, {})
    contents["report.md"].write_text("# other")
    assert not versions.publish(where, "retrain/1", contents, {}).new
    assert versions.verify(where, "retrain/1") == 3


def test_a_damaged_or_missing_object_is_found(where, contents):
    versions.publish(where, "retrain/1", contents, {})
    s3 = client.connect(where)
    s3.put_object(Bucket=where.bucket, Key="retrain/1/report.md", Body=b"# tampered")
    with pytest.raises(UserError, match=r"report\.md: object differs"):
        versions.verify(where, "retrain/1")
    s3.delete_object(Bucket=where.bucket, Key="retrain/1/report.md")
    with pytest.raises(UserError, match="missing"):
        versions.verify(where, "retrain/1")


def test_without_a_manifest_there_is_no_version(where, contents, tmp_path):
    with pytest.raises(UserError, match="no such file"):
        versions.publish(where, "retrain/1", {**contents, "x": tmp_path / "none"}, {})
    assert versions.read_manifest(where, "retrain/1") is None
    with pytest.raises(UserError, match="no such version"):
        versions.verify(where, "retrain/1")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"keys": Keys("nobody", "wrong")}, "refuses the keys"),
        ({"endpoint": "http://127.0.0.1:9"}, "does not answer"),
        ({"endpoint": "nonsense"}, "does not answer"),
        ({"bucket": "not-there"}, "no such bucket"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_clear_error(where, change, says):
    with pytest.raises(UserError, match=says) as caught:
        client.check(dataclasses.replace(where, **change))
    assert caught.value.fix


def test_wrong_secrets_are_refused(where):
    pair = Keys(where.keys.access, "wrong")
    with pytest.raises(UserError, match="refuses the keys"):
        client.check(dataclasses.replace(where, keys=pair))


def test_secrets_never_show(where):
    assert where.keys.secret not in f"{where} {where.keys!r} {where.keys}"
