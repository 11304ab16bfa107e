"""Published versions against a real S3 server."""

import dataclasses

import pytest

from dualvla import files
from dualvla.errors import UserError
from dualvla.store import client, versions
from dualvla.store.keys import Keys


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


def test_the_bucket_keeps_what_is_overwritten_and_encrypts_it(where, contents):
    s3 = client.connect(where)
    versions.publish(where, "retrain/1", contents, {})
    for name in (*versions.read_manifest(where, "retrain/1")["files"], versions.MANIFEST):
        head = s3.head_object(Bucket=where.bucket, Key=f"retrain/1/{name}")
        assert head["ServerSideEncryption"] == "AES256"
    s3.put_object(Bucket=where.bucket, Key="retrain/1/report.md", Body=b"# tampered")
    kept = s3.list_object_versions(Bucket=where.bucket, Prefix="retrain/1/report.md")["Versions"]
    assert len(kept) == 2


def test_a_bucket_that_is_not_kept_as_the_parameters_say_is_refused(where):
    s3 = client.connect(where)
    bare = dataclasses.replace(where, bucket="bare" + where.bucket[-20:])
    s3.create_bucket(Bucket=bare.bucket)
    with pytest.raises(UserError, match="the bucket has no versioning"):
        client.check(bare)
    client.check(dataclasses.replace(bare, versioning=False, encryption=None))
    client.check(bare, create=True)
    client.check(bare)


def test_a_version_is_listed_by_its_own_manifest_only(where, tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    for name in ("1", "2"):
        contents = {"incoming/manifest.json": tmp_path / "manifest.json"}
        versions.publish(where, f"watch/{name}", contents, {"n": name})
    half = "watch/half/incoming/manifest.json"  # of an upload that was killed
    client.connect(where).put_object(Bucket=where.bucket, Key=half, Body=b"{}")
    found = versions.listing(where, "watch")
    assert [(one.name, one.manifest["about"]["n"]) for one in found] == [("1", "1"), ("2", "2")]
    with pytest.raises(UserError, match="the manifest's own name"):
        versions.publish(where, "watch/3", {"manifest.json": tmp_path / "manifest.json"}, {})


def test_a_pulled_version_is_verified_and_whole(where, contents, tmp_path):
    versions.publish(where, "retrain/1", contents, {})
    out = tmp_path / "out" / "pulled"
    count, read = versions.pull(where, "retrain/1", out)
    assert (count, read) == (3, 256 * 40_000 + 2 + 8)
    assert (out / "report.md").read_text() == "# report"
    assert files.sha256(out / "models/dualvla") == files.sha256(contents["models/dualvla"])
    assert versions.pull(where, "retrain/1", out) == (3, 0)
    (out / "report.md").write_text("# other")
    with pytest.raises(UserError, match="is not this version"):
        versions.pull(where, "retrain/1", out)
    assert list(out.parent.iterdir()) == [out]


def test_a_stopped_pull_goes_on_where_it_stopped(where, contents, tmp_path):
    versions.publish(where, "retrain/1", contents, {})
    beside, name = tmp_path / ".out.pull", "models/dualvla/model.safetensors"
    (beside / name).parent.mkdir(parents=True)
    content = (contents["models/dualvla"] / "model.safetensors").read_bytes()
    (beside / name).write_bytes(content[:-100])
    (beside / "report.md").write_text("# report")
    (beside / "of-another-version").write_text("x")
    assert versions.pull(where, "retrain/1", tmp_path / "out") == (3, 102)
    assert (tmp_path / "out" / name).read_bytes() == content
    assert not (tmp_path / "out/of-another-version").exists()


def test_a_pull_of_damaged_objects_leaves_no_folder(where, contents, tmp_path):
    versions.publish(where, "retrain/1", contents, {})
    client.connect(where).put_object(
        Bucket=where.bucket, Key="retrain/1/report.md", Body=b"# tampered"
    )
    with pytest.raises(UserError, match=r"report\.md: object differs"):
        versions.pull(where, "retrain/1", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_name_that_leaves_the_folder_is_refused(where, tmp_path):
    entry = {"sha256": "0" * 64, "bytes": 1}
    manifest = {"schema": 1, "version": "x", "about": {}, "files": {"../evil": entry}}
    versions.put_json(client.connect(where), where, "retrain/x/manifest.json", manifest)
    with pytest.raises(UserError, match=r"leaves the folder: \.\./evil"):
        versions.pull(where, "retrain/x", tmp_path / "out")


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


def test_a_version_that_another_process_published_meanwhile_is_compared_with_ours(
    where, contents, monkeypatch
):
    put = versions.put_json

    def late(s3, place, key, data, **condition):
        """Another process's manifest is there first."""
        theirs = data | {"about": {"who": "the first"}}
        if spoilt:
            entry = theirs["files"]["report.md"] | {"sha256": "0" * 64}
            theirs["files"] = theirs["files"] | {"report.md": entry}
        put(s3, place, key, theirs)
        return put(s3, place, key, data, **condition)

    monkeypatch.setattr(versions, "put_json", late)
    spoilt = False
    done = versions.publish(where, "retrain/1", contents, {"who": "the second"})
    assert not done.new
    assert versions.read_manifest(where, "retrain/1")["about"] == {"who": "the first"}
    spoilt = True
    with pytest.raises(UserError, match="differs from what was published"):
        versions.publish(where, "retrain/2", contents, {})
