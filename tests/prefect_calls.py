"""Calls to a Prefect server that ask again, as Prefect's own client does.

On SQLite a busy server answers 503, and one that is just starting does not answer.
"""

import json
from typing import Any

import urllib3

AGAIN = urllib3.Retry(
    total=12,
    backoff_factor=0.1,  # 0.2, 0.4, ... seconds
    backoff_max=5,
    status_forcelist=[503],
    allowed_methods=None,  # reading by POST too: filters and counts change nothing
)
TIMEOUT = 60.0  # seconds


def call(api: str, path: str, body: object | None = None) -> Any:
    """GET `path` of the API at `api`, or POST `body` to it; the answer's JSON."""
    with urllib3.PoolManager(retries=AGAIN, timeout=TIMEOUT) as pool:
        answer = pool.request("GET" if body is None else "POST", f"{api}{path}", json=body)
    assert answer.status < 300, (answer.status, path, answer.data[:500])
    return json.loads(answer.data) if answer.data else None
