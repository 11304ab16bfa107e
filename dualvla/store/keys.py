"""The key pairs of the local S3 server: its owner's, and one for each identity.

They come from the environment, or are random and lie in one file that only its owner can read,
which AWS clients and DVC read too (the format is theirs, an identity is a profile). Nothing prints
a secret.
"""

import configparser
import os
import secrets
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from dualvla import files, redaction
from dualvla.errors import UserError

CREDENTIALS = Path(".dualvla/credentials")
OWNER = "default"  # as AWS clients call the section they read unasked
IDENTITIES = ("reader", "trainer", "promoter")
VARIABLE = "DUALVLA_IDENTITY"
NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
# SeaweedFS' inner HTTP servers take whatever anybody sends them unless they know these.
SIGNING = tuple(
    f"WEED_JWT_{part}SIGNING_{kind}" for part in ("", "FILER_") for kind in ("KEY", "READ_KEY")
)


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
        return dict(zip(NAMES, (self.access, self.secret), strict=True))


def signing() -> dict[str, str]:
    """Random keys by which the parts of a local S3 server know each other, as its variables."""
    return {name: secrets.token_urlsafe(32) for name in SIGNING}


def identity() -> str:
    """Who this process is to the local S3: `DUALVLA_IDENTITY`, else its owner.

    Raises:
        UserError: no such identity.
    """
    chosen = os.environ.get(VARIABLE) or OWNER
    if chosen not in (OWNER, *IDENTITIES):
        fix = f"one of {', '.join((OWNER, *IDENTITIES))}"
        raise UserError(f"no identity {chosen!r}", where=VARIABLE, fix=fix)
    return chosen


def given() -> Keys | None:
    """The pair in the environment, which wins over every file.

    Raises:
        UserError: only one of the two variables is set.
    """
    access, secret = (os.environ.get(name) for name in NAMES)
    if access and secret:
        return Keys(access, secret)
    if access or secret:
        missing = NAMES[1] if access else NAMES[0]
        raise UserError(f"{missing} is not set but its twin is", fix="set both, or neither")
    return None


def local(root: Path, *, create: bool = False, who: str | None = None) -> Keys | None:
    """A key pair of the local S3: from the environment, else from `.dualvla/credentials`.

    Args:
        root: folder of the project.
        create: make a random pair, in a file only its owner can read, if there is none.
        who: an identity or `OWNER`; None is that of this process.

    Raises:
        UserError: only one of the two variables is set; the file is none, or lacks the identity.
    """
    if (pair := given()) is not None:
        return pair
    who = who or identity()
    if create:
        return stored(root, (who,))[who]
    pairs = read(root / CREDENTIALS)
    if not pairs:
        return None
    if who not in pairs:
        fix = "`dualvla down`, then `dualvla up`, makes them"
        raise UserError(f"no keys of {who}", where=str(root / CREDENTIALS), fix=fix)
    return pairs[who]


def stored(root: Path, names: tuple[str, ...]) -> dict[str, Keys]:
    """The pairs of some identities in `.dualvla/credentials`; random ones are made if missing."""
    path = root / CREDENTIALS
    pairs = read(path)
    missing = [name for name in names if name not in pairs]
    if missing:
        pairs |= {name: random(name) for name in missing}
        write(path, pairs)
    return {name: pairs[name] for name in names}


def random(name: str) -> Keys:
    """A new key pair; its public half tells whose it is."""
    called = "dualvla" if name == OWNER else name
    return Keys(f"{called}-{secrets.token_hex(4)}", secrets.token_hex(20))


def read(path: Path) -> dict[str, Keys]:
    """The pairs of a credentials file by section; empty if there is no file."""
    parser = configparser.ConfigParser(default_section="")
    try:
        parser.read(path, encoding="utf-8")
        return {
            name: Keys(parser[name]["aws_access_key_id"], parser[name]["aws_secret_access_key"])
            for name in parser.sections()
        }
    except (KeyError, configparser.Error) as error:
        raise UserError(
            "not a credentials file", where=str(path), fix="delete it and `dualvla down`"
        ) from error


def write(path: Path, pairs: dict[str, Keys]) -> None:
    """Write a credentials file that only its owner can read."""
    parser = configparser.ConfigParser(default_section="")
    for name, pair in pairs.items():
        parser[name] = {
            "aws_access_key_id": pair.access,
            "aws_secret_access_key": pair.secret,
        }
    stream = StringIO()
    parser.write(stream)
    files.write_private(path, stream.getvalue().rstrip() + "\n")
