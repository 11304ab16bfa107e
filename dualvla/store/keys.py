"""The key pair of the local S3 server.

It comes from the environment, or is random and lies in one file that only its owner can read, which
AWS clients and DVC read too (the format is theirs). Nothing prints a secret.
"""

import configparser
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from dualvla import redaction
from dualvla.errors import UserError

CREDENTIALS = Path(".dualvla/credentials")


@dataclass(frozen=True)
class Keys:
    """An S3 key pair; its secret is never printed."""

    access: str
    secret: str

    def __post_init__(self) -> None:
        redaction.remember(self.secret)

    def __repr__(self) -> str:
        return f"Keys({self.access})"

    def environment(self) -> dict[str, str]:
        """As the variables that AWS clients read."""
        return {"AWS_ACCESS_KEY_ID": self.access, "AWS_SECRET_ACCESS_KEY": self.secret}


def local(root: Path, *, create: bool = False) -> Keys | None:
    """The key pair of the local S3: from the environment, else from `.dualvla/credentials`.

    Args:
        root: folder of the project.
        create: make a random pair, in a file only its owner can read, if there is none.

    Raises:
        UserError: only one of the two variables is set.
    """
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    given = [os.environ.get(name) for name in names]
    if given[0] and given[1]:
        return Keys(given[0], given[1])
    if given[0] or given[1]:
        missing = names[1] if given[0] else names[0]
        raise UserError(f"{missing} is not set but its twin is", fix="set both, or neither")
    path = root / CREDENTIALS
    if not path.is_file():
        if not create:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        pair = Keys("dualvla-" + secrets.token_hex(4), secrets.token_hex(20))
        text = f"[default]\naws_access_key_id = {pair.access}\n"
        text += f"aws_secret_access_key = {pair.secret}\n"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            stream.write(text)
    parser = configparser.ConfigParser()
    parser.read(path)
    try:
        section = parser["default"]
        return Keys(section["aws_access_key_id"], section["aws_secret_access_key"])
    except KeyError as error:
        raise UserError(
            "not a credentials file", where=str(path), fix="delete it and `dualvla down`"
        ) from error
