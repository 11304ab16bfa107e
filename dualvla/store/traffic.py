"""How many bytes this process has sent to S3 and received from it.

Counted by the client's own hooks, so that nothing that uses the client has to count: bodies as
their headers announce them, repeated requests again. A download that was cut is therefore counted
in full and its rest once more. What other programs move (DVC's transfers) is not seen here.
"""

import threading
from typing import Any

_LOCK = threading.Lock()
_TOTAL = {"sent": 0, "received": 0}


def watch(client: Any) -> Any:
    """Count what a boto3 client moves from now on; returns the client."""
    client.meta.events.register("before-send.s3", _sent)
    client.meta.events.register("response-received.s3", _received)
    return client


def total() -> tuple[int, int]:
    """Bytes sent and received by all clients of this process so far."""
    with _LOCK:
        return _TOTAL["sent"], _TOTAL["received"]


def add(*, sent: int = 0, received: int = 0) -> None:
    """Count bytes that something other than the client has moved for this process."""
    with _LOCK:
        _TOTAL["sent"] += sent
        _TOTAL["received"] += received


def _sent(request: Any, **_: Any) -> None:
    add(sent=_length(request.headers))


def _received(response_dict: Any, event_name: str, **_: Any) -> None:
    # The answer to HEAD announces a body that does not come; without an answer there is none.
    if response_dict is not None and ".Head" not in event_name:
        add(received=_length(response_dict["headers"]))


def _length(headers: Any) -> int:
    return int(headers.get("Content-Length") or 0)
