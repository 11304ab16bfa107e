"""The S3 client and the one check that is made before a night's work depends on it.

The local stack and a real S3 differ in endpoint and keys only. For `store.endpoint: null` both come
from the stack; otherwise the keys come from where AWS clients look (environment, profile, role).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualvla import stack
from dualvla.config import Store
from dualvla.errors import UserError
from dualvla.store import keys
from dualvla.store.keys import CREDENTIALS, Keys


@dataclass(frozen=True)
class Place:
    """A bucket and how to reach it."""

    endpoint: str
    bucket: str
    region: str
    keys: Keys | None  # None: where AWS clients look
    local: bool = False  # the local stack's

    @property
    def url(self) -> str:
        """For people: `s3://bucket at endpoint`."""
        return f"s3://{self.bucket} at {self.endpoint}"


def place(store: Store, root: Path) -> Place:
    """Where this project's objects lie; `root` is the folder that holds `.dualvla/`."""
    if store.endpoint is not None:
        return Place(store.endpoint, store.bucket, store.region, None)
    pair = keys.local(root)
    service = next(one for one in stack.services(root, pair or Keys("", "")) if one.name == "s3")
    return Place(service.url, store.bucket, store.region, pair, local=True)


def connect(where: Place, *, attempts: int = 5) -> Any:
    """A boto3 client; `attempts` bounds the tries of one request."""
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
    return boto3.client(
        "s3",
        endpoint_url=where.endpoint,
        region_name=where.region,
        aws_access_key_id=pair.access if pair else None,
        aws_secret_access_key=pair.secret if pair else None,
        config=options,
    )


def check(where: Place, *, create: bool = False) -> None:
    """Raise a `UserError` unless the bucket answers with these keys.

    Args:
        where: the bucket.
        create: make the bucket if there is none; meant for the local stack.
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
        if code in MISSING and create:
            client.create_bucket(Bucket=where.bucket)
            return
        raise _refused(code, where) from error
    except (BotoCoreError, ValueError) as error:
        fix = "`dualvla up` for the local stack, or mend store.endpoint"
        raise UserError("S3 does not answer", where=where.url, fix=fix) from error


def remote_config(where: Place, root: Path, prefix: str = "dvc") -> Mapping[str, str]:
    """Settings of the DVC remote, without secrets: local keys are named by their file."""
    settings = {
        "url": f"s3://{where.bucket}/{prefix}",
        "region": where.region,
        "endpointurl": where.endpoint,
    }
    if where.local and (root / CREDENTIALS).is_file():
        settings["credentialpath"] = str((root / CREDENTIALS).absolute())
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
