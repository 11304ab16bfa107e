import hashlib

import pytest

from dualvla import config
from dualvla.store import client


@pytest.fixture
def where(s3_root, request):
    """A bucket of its own on a real S3 server."""
    bucket = "v" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:40]
    store = config.Store(endpoint=None, bucket=bucket, region="us-east-1")
    place = client.place(store, s3_root)
    client.check(place, create=True)
    return place
