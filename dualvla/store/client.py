"""The S3 client and the one check that is made before a night's work depends on it.

The local stack and a real S3 differ in endpoint and keys only. For `store.endpoint: null` both come
from the stack; otherwise the keys come from where AWS clients look (environment, profile, role).
"""

import functools
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualvla import stack
from dualvla.config import Store
from dualvla.errors import UserError
from dualvla.store import keys, traffic
from dualvla.store.keys import CREDENTIALS, Keys

# As PREFECT_API_URL for Prefect: a server elsewhere, where `store.endpoint` says none.
ENDPOINT = "DUALVLA_S3_ENDPOINT"
DVC = "dvc"  # prefix of DVC's remote in the bucket


@dataclass(frozen=True)
class Place:
    """A bucket and how to reach it."""

    endpoint: str
    bucket: str
    region: str
    keys: Keys | None  # None: where AWS clients look
    local: bool = False  # the local stack's
    versioning: bool = False  # whether the bucket must keep what is overwritten
    encryption: str | None = None  # server-side algorithm of what is uploaded

    @property
    def url(self) -> str:
        """For people: `s3://bucket at endpoint`."""
        return f"s3://{self.bucket} at {self.endpoint}"

    @property
    def options(self) -> dict[str, Any]:
        """What every request that makes an object says besides its content."""
        return {"ServerSideEncryption": self.encryption} if self.encryption else {}


def place(store: Store, root: Path, who: str | None = None) -> Place:
    """Where this project's objects lie.

    Args:
        store: parameters.
        root: the folder that holds `.dualvla/`.
        who: identity to act as on the local stack; None is that of this process.
    """
    safe: dict[str, Any] = {"versioning": store.versioning, "encryption": store.encryption}
    if (endpoint := store.endpoint or os.environ.get(ENDPOINT)) is not None:
        return Place(endpoint, store.bucket, store.region, None, **safe)
    pair = keys.local(root, who=who)
    service = next(one for one in stack.services(root) if one.name == "s3")
    return Place(service.url, store.bucket, store.region, pair, local=True, **safe)


def connect(where: Place, *, attempts: int = 5) -> Any:
    """A boto3 client, the same for the same place; `attempts` bounds the tries of one request."""
    # boto3 builds clients slowly and not safely in threads; a forked child must not share sockets.
    with _BUILDING:
        return _connect(where, attempts, os.getpid())


_BUILDING = threading.Lock()


@functools.lru_cache(maxsize=16)
def _connect(where: Place, attempts: int, _process: int) -> Any:
    import boto3
    from botocore.config import Config

    # Path style: a local server has no name for each bucket.
    options = Config(
        connect_timeout=3,
        read_timeout=60,
        retries={"max_attempts": attempts, "mode": "standard"},
        s3={"addressing_style": "path"},
    )
    pair = where.keys
    client = boto3.client(
        "s3",
        endpoint_url=where.endpoint,
        region_name=where.region,
        aws_access_key_id=pair.access if pair else None,
        aws_secret_access_key=pair.secret if pair else None,
        config=options,
    )
    return traffic.watch(client)


def check(where: Place, *, create: bool = False) -> None:
    """Raise a `UserError` unless the bucket answers with these keys and is kept as `where` says.

    Args:
        where: the bucket.
        create: make the bucket if there is none, with versioning and encryption on; meant for the
            local stack.
    """
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        client = connect(where, attempts=1)
        client.head_bucket(Bucket=where.bucket)
    except NoCredentialsError as error:
        fix = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise UserError("no keys for S3", where=where.url, fix=fix) from error
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code not in MISSING or not create:
            raise _refused(code, where) from error
        _create(where, client)
    except (BotoCoreError, ValueError) as error:
        fix = "`dualvla up` for the local stack, or mend store.endpoint"
        raise UserError("S3 does not answer", where=where.url, fix=fix) from error
    for name, wanted, is_on, turn_on in PROTECTIONS:
        if wanted(where):
            _protect(where, connect(where), name, is_on, turn_on if create else None)


def _create(where: Place, client: Any) -> None:
    from botocore.exceptions import ClientError

    # S3's first region must not be named, every other one must.
    home = {"LocationConstraint": where.region} if where.region != "us-east-1" else None
    try:
        more = {} if home is None else {"CreateBucketConfiguration": home}
        client.create_bucket(Bucket=where.bucket, **more)
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code != "BucketAlreadyOwnedByYou":  # by a process that was faster
            raise _refused(code, where) from error


def _protect(
    where: Place,
    client: Any,
    name: str,
    is_on: Callable[[Any, str], bool],
    turn_on: Callable[[Any, Place], Any] | None,
) -> None:
    from botocore.exceptions import ClientError

    try:
        if is_on(client, where.bucket):
            return
        if turn_on is not None:
            turn_on(client, where)
            return
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in {"403", "AccessDenied"}:
            return  # who may not look may not change it: whoever made the bucket answers for it
        if code != "NotImplemented":
            raise _refused(code, where) from error
    fix = f"turn it on, as infra/terraform does, or change store.{name}"
    raise UserError(f"the bucket has no {name}", where=where.url, fix=fix)


def _is_versioned(client: Any, bucket: str) -> bool:
    return bool(client.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled")


def _is_encrypted(client: Any, bucket: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        client.get_bucket_encryption(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ServerSideEncryptionConfigurationNotFoundError":
            raise
        return False
    return True


def _version(client: Any, where: Place) -> None:
    client.put_bucket_versioning(Bucket=where.bucket, VersioningConfiguration={"Status": "Enabled"})


def _encrypt(client: Any, where: Place) -> None:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": where.encryption}}
    client.put_bucket_encryption(
        Bucket=where.bucket, ServerSideEncryptionConfiguration={"Rules": [rule]}
    )


# Of each: its parameter, whether it is wanted, whether it is on, and how it is turned on.
PROTECTIONS: tuple[tuple[str, Callable[[Place], bool], Any, Any], ...] = (
    ("versioning", lambda where: where.versioning, _is_versioned, _version),
    ("encryption", lambda where: where.encryption is not None, _is_encrypted, _encrypt),
)


def stored_bytes(where: Place, prefix: str) -> int:
    """Size of all objects under a prefix together."""
    pages = (
        connect(where)
        .get_paginator("list_objects_v2")
        .paginate(Bucket=where.bucket, Prefix=f"{prefix}/")
    )
    return sum(one["Size"] for page in pages for one in page.get("Contents", []))


def remote_config(where: Place, root: Path, prefix: str = DVC) -> Mapping[str, str]:
    """Settings of the DVC remote, without secrets: local keys are named by their file."""
    settings = {
        "url": f"s3://{where.bucket}/{prefix}",
        "region": where.region,
        "endpointurl": where.endpoint,
    }
    if where.local and (root / CREDENTIALS).is_file():
        settings["credentialpath"] = str((root / CREDENTIALS).absolute())
        # A named profile would win over keys in the environment.
        if keys.given() is None and (who := keys.identity()) != keys.OWNER:
            settings["profile"] = who
    return settings


MISSING = {"404", "NoSuchBucket"}


def _refused(code: str, where: Place) -> UserError:
    if code in MISSING:
        return UserError("no such bucket", where=where.url, fix="create it, or mend store.bucket")
    if code in {"403", "AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId"}:
        fix = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        if where.local:
            fix += ", or unset them and `dualvla down` to use the local stack's own"
        return UserError("S3 refuses the keys", where=where.url, fix=fix)
    return UserError(f"S3 answers {code}", where=where.url, fix="see the server's log")
