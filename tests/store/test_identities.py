"""What reader, trainer and promoter may do, on the local S3 server and by IAM's own rules."""

import json
import uuid

import boto3
import pytest
from botocore.exceptions import ClientError

from dualvla import config, stack
from dualvla.errors import UserError
from dualvla.store import client, identities, keys

PRODUCTION = "registry/dualvla/aliases/production.json"
CANDIDATE = "registry/dualvla/aliases/candidate.json"
DECISION = "registry/dualvla/decisions/1.json"
WRITES = {  # object -> who may write it
    "dvc/files/md5/ab/cd": {"trainer"},
    "retrain/0123/manifest.json": {"trainer"},
    "registry/dualvla/0123/model.safetensors": {"trainer"},
    "evaluations/dualvla/0123/canary-01/summary.json": {"trainer"},
    "incoming/index.json": {"trainer"},
    "incoming/ingested/0123/manifest.json": {"trainer"},
    "incoming/shards/one/meta/info.json": set(),
    CANDIDATE: {"trainer", "promoter"},
    PRODUCTION: {"promoter"},
    DECISION: {"promoter"},
    "anything/else": set(),
}


@pytest.fixture
def bucket(s3_root):
    name = f"i{uuid.uuid4().hex}"
    place = client.place(config.Store(endpoint=None, bucket=name, region="us-east-1"), s3_root)
    client.check(place, create=True)
    client.connect(place).put_object(Bucket=name, Key="dvc/there", Body=b"x")
    return place


@pytest.fixture
def acting(s3_root, bucket, monkeypatch):
    """A function that gives the S3 client of an identity."""

    def client_of(who):
        monkeypatch.setenv(keys.VARIABLE, who)
        store = config.Store(endpoint=None, bucket=bucket.bucket, region="us-east-1")
        return client.connect(client.place(store, s3_root), attempts=1)

    return client_of


def denied(action, **arguments) -> bool:
    try:
        action(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDenied":
            raise
        return True
    return False


@pytest.mark.parametrize("who", keys.IDENTITIES)
def test_each_reads_everything_and_writes_only_its_own(bucket, acting, who):
    s3, name = acting(who), bucket.bucket
    assert s3.get_object(Bucket=name, Key="dvc/there")["Body"].read() == b"x"
    assert s3.list_objects_v2(Bucket=name)["KeyCount"] == 1
    written = {key for key in WRITES if not denied(s3.put_object, Bucket=name, Key=key, Body=b"y")}
    assert written == {key for key, who_may in WRITES.items() if who in who_may}


@pytest.mark.parametrize("who", keys.IDENTITIES)
def test_nobody_destroys_or_administers(bucket, acting, who):
    s3, name = acting(who), bucket.bucket
    assert denied(s3.delete_object, Bucket=name, Key="dvc/there")
    removed = s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "dvc/there"}]})
    assert [error["Code"] for error in removed["Errors"]] == ["AccessDenied"]
    off = {"Status": "Suspended"}
    assert denied(s3.put_bucket_versioning, Bucket=name, VersioningConfiguration=off)
    assert denied(s3.put_bucket_policy, Bucket=name, Policy="{}")
    assert denied(s3.create_bucket, Bucket=f"{name}2")
    assert denied(s3.delete_bucket, Bucket=name)


def test_a_trainer_moves_production_by_no_way_round(bucket, acting):
    owner = client.connect(bucket)
    owner.put_object(Bucket=bucket.bucket, Key=PRODUCTION, Body=b"kept")
    s3, name = acting("trainer"), bucket.bucket
    where = {"Bucket": name, "Key": PRODUCTION}
    assert denied(s3.put_object, Body=b"moved", **where)
    assert denied(s3.copy_object, CopySource=f"{name}/dvc/there", **where)
    assert denied(s3.create_multipart_upload, **where)
    assert denied(s3.delete_object, **where)
    odd = "registry/dualvla/aliases//production.json"
    assert denied(s3.put_object, Bucket=name, Key=odd, Body=b"moved")
    with pytest.raises(ClientError):
        s3.put_object(Bucket=name, Key=f"dvc/../{PRODUCTION}", Body=b"moved")
    assert owner.get_object(**where)["Body"].read() == b"kept"


def test_a_trainer_resumes_its_multipart_uploads(bucket, acting):
    s3, where = acting("trainer"), {"Bucket": bucket.bucket, "Key": "registry/m/1/weights"}
    upload = s3.create_multipart_upload(**where)["UploadId"]
    tag = s3.upload_part(UploadId=upload, PartNumber=1, Body=b"z", **where)["ETag"]
    assert [u["UploadId"] for u in s3.list_multipart_uploads(Bucket=bucket.bucket)["Uploads"]]
    assert len(s3.list_parts(UploadId=upload, **where)["Parts"]) == 1
    parts = {"Parts": [{"PartNumber": 1, "ETag": tag}]}
    s3.complete_multipart_upload(UploadId=upload, MultipartUpload=parts, **where)
    assert s3.get_object(**where)["Body"].read() == b"z"


def test_a_wrong_secret_is_nobody(bucket):
    s3 = boto3.client(
        "s3",
        endpoint_url=bucket.endpoint,
        region_name="us-east-1",
        aws_access_key_id="reader",
        aws_secret_access_key="guessed",
    )
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        s3.list_objects_v2(Bucket=bucket.bucket)


@pytest.mark.parametrize("who", keys.IDENTITIES)
def test_iam_grants_the_same(who, monkeypatch):
    """The documents that Terraform attaches, enforced by moto's evaluation of IAM policies."""
    from moto import mock_aws
    from moto.core import set_initial_no_auth_action_count

    name = "artifacts"
    for variable in (*keys.NAMES, "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)

    @set_initial_no_auth_action_count(4 + len(identities.granted(who)))
    def check():
        root = {"aws_access_key_id": "root", "aws_secret_access_key": "root"}
        iam = boto3.client("iam", region_name="us-east-1", **root)
        s3 = boto3.client("s3", region_name="us-east-1", **root)
        s3.create_bucket(Bucket=name)
        s3.put_object(Bucket=name, Key="dvc/there", Body=b"x")
        iam.create_user(UserName=who)
        for policy in identities.granted(who):
            document = json.dumps(identities.policy(policy, name))
            iam.put_user_policy(UserName=who, PolicyName=policy, PolicyDocument=document)
        pair = iam.create_access_key(UserName=who)["AccessKey"]
        s3 = boto3.client(
            "s3",
            region_name="us-east-1",
            aws_access_key_id=pair["AccessKeyId"],
            aws_secret_access_key=pair["SecretAccessKey"],
        )
        assert s3.get_object(Bucket=name, Key="dvc/there")["Body"].read() == b"x"
        for key, who_may in WRITES.items():
            refused = denied(s3.put_object, Bucket=name, Key=key, Body=b"y")
            assert refused == (who not in who_may), key
        assert denied(s3.delete_object, Bucket=name, Key="dvc/there")

    with mock_aws():
        check()


def test_identities_have_random_keys_of_their_own_in_a_private_file(s3_root):
    pairs = keys.read(s3_root / keys.CREDENTIALS)
    assert set(pairs) == {keys.OWNER, *keys.IDENTITIES}
    assert len({pair.secret for pair in pairs.values()}) == len(pairs)
    for path in (s3_root / keys.CREDENTIALS, s3_root / stack.IDENTITIES):
        assert path.stat().st_mode & 0o777 == 0o600


def test_an_unknown_identity_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv(keys.VARIABLE, "trianer")
    with pytest.raises(UserError, match="no identity 'trianer'"):
        keys.local(tmp_path)


def test_a_key_file_of_an_older_stack_says_what_to_do(tmp_path, monkeypatch):
    keys.write(tmp_path / keys.CREDENTIALS, {keys.OWNER: keys.random(keys.OWNER)})
    monkeypatch.setenv(keys.VARIABLE, "trainer")
    with pytest.raises(UserError, match="no keys of trainer"):
        keys.local(tmp_path)


def test_dvc_uses_the_same_identity(s3_root, bucket, monkeypatch):
    assert "profile" not in client.remote_config(bucket, s3_root)
    monkeypatch.setenv(keys.VARIABLE, "trainer")
    assert client.remote_config(bucket, s3_root)["profile"] == "trainer"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    assert "profile" not in client.remote_config(bucket, s3_root)


def test_an_endpoint_of_the_environment_wins_over_the_local_stack(s3_root, monkeypatch):
    monkeypatch.setenv(client.ENDPOINT, "http://s3.example:8333")
    store = config.Store(endpoint=None, bucket="artifacts", region="us-east-1")
    place = client.place(store, s3_root)
    assert (place.endpoint, place.local, place.keys) == ("http://s3.example:8333", False, None)
