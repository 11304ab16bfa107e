"""An S3 that stops answering in the middle of something is one clear error.

Clients ask again with backoff before they give up. What follows is no bad input: the same command
goes on where it stopped, so the error has a class of its own and runs repeat what raised it.
"""

import contextlib
from collections.abc import Iterator

from dualvla.errors import OutageError, UserError
from dualvla.store.client import Place

AGAIN = "the same command goes on where it stopped"


@contextlib.contextmanager
def told(where: Place) -> Iterator[None]:
    """Turn what a bucket's client raises into one line.

    Raises:
        OutageError: the server does not answer, or fails.
        UserError: it refuses what is asked.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        what = f"S3 answers {error.response['Error']['Code']}"
        if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
            raise OutageError(what, where=where.url, fix=AGAIN) from error
        raise UserError(what, where=where.url, fix="check the keys") from error
    except BotoCoreError as error:
        raise OutageError(f"S3 does not answer: {error}", where=where.url, fix=AGAIN) from error
