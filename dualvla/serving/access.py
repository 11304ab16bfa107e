"""Who may talk to a policy server.

On loopback everyone on the machine may, and no page of a browser: requests with an Origin are
refused. Any other address wants a shared secret, from the environment and never from a file or an
option. It travels in a header, in the clear over ws://: across a network that others share, put TLS
or an SSH tunnel around it.
"""

import hmac
import ipaddress
import logging
import os
from collections.abc import Sequence

from dualvla.errors import UserError

TOKEN = "DUALVLA_SERVE_TOKEN"
HEADER = "Authorization"
SCHEMES = ("Bearer", "Api-Key")  # the second is what openpi's client sends

# What the websockets library logs: at level DEBUG that would be headers, the secret among them.
SILENT = logging.getLogger("dualvla.serving.websockets")
SILENT.setLevel(logging.CRITICAL)


def token() -> str | None:
    """The secret of the environment, None if there is none.

    Raises:
        UserError: it holds what a header cannot carry.
    """
    found = os.environ.get(TOKEN, "")
    if not found:
        return None
    if not found.isascii() or not found.isprintable() or " " in found:
        fix = "letters and digits, such as `openssl rand -hex 32` prints"
        raise UserError("a token that no header can carry", where=TOKEN, fix=fix)
    return found


def headers(secret: str | None) -> dict[str, str]:
    """Headers with which a client shows its secret."""
    return {} if secret is None else {HEADER: f"{SCHEMES[0]} {secret}"}


def allowed(shown: Sequence[str], secret: str | None) -> bool:
    """Whether a request whose authorization headers are `shown` knows the secret."""
    if secret is None:
        return True
    scheme, _, value = (shown[0] if len(shown) == 1 else "").partition(" ")
    same = hmac.compare_digest(value.encode(errors="replace"), secret.encode())
    return same and scheme in SCHEMES


def require_safe(host: str, secret: str | None) -> None:
    """Raise a `UserError` where others than this machine could connect without a secret."""
    if secret is None and not _is_loopback(host):
        fix = f"set {TOKEN} here and at the client, or leave the host out"
        raise UserError("others could reach this address without a token", where=host, fix=fix)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
