"""Secrets never reach what is kept: logs, parameters, manifests, reports.

A secret is the value of an environment variable whose name says so, the password in such a URL, or
a key that `dualvla.store.keys` has read. Text for people is redacted where it arises: a factory of
log records covers every handler of every library, which filters on loggers would not (they do not
see records of child loggers). Files that are published are never rewritten, because their hashes
are recorded: one that holds a secret is refused. What this cannot see is a secret that was encoded.
"""

import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from dualvla.errors import UserError

MASK = "[redacted]"
SHORTEST = 8  # characters; replacing a shorter value would deface ordinary text
CHUNK = 2**22  # bytes read at once

# Whole words between underscores: TOKENIZERS_PARALLELISM holds no token.
_SECRET = re.compile(
    r"(^|_)(SECRET|TOKEN|PASSWORD|PASSWD|PGPASSWORD|PASSPHRASE|AUTH_STRING|"
    r"(API|JUDGE|SIGNING|READ)_?KEY|ACCESS_KEY|PRIVATE_KEY|WEBHOOK(_URL)?)$"
)
_PASSWORD_IN_URL = re.compile(r"(?<=://)([^\s/:@]*):([^\s/@]+)@")
_read: set[str] = set()

Data = TypeVar("Data")


def remember(secret: str) -> None:
    """Treat a value that was read from a file as a secret of this process."""
    if len(secret) >= SHORTEST:
        _read.add(secret)


def secrets(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Known secret values, each with the name of where it comes from; the longest first."""
    found = dict.fromkeys(_read, "the key file")
    for name, value in environ.items():
        if _SECRET.search(name.upper()):
            found[value] = name
            # Prefect takes user:password, and a log may show the second alone.
            if name.upper().endswith("AUTH_STRING") and ":" in value:
                found[value.split(":", 1)[1]] = name
        elif "://" in value and (password := _password(value)):
            found[password] = name
    ordered = sorted(found, key=len, reverse=True)
    return {value: found[value] for value in ordered if len(value) >= SHORTEST}


def redact(text: str) -> str:
    """The text with every known secret, and every password in a URL, masked."""
    for value in secrets():
        text = text.replace(value, MASK)
    return _PASSWORD_IN_URL.sub(rf"\1:{MASK}@", text) if "://" in text else text


def redacted(data: Data) -> Data:
    """Plain data (mappings, lists, scalars) with all of its text redacted, keys included."""
    result: Any = data
    if isinstance(data, str):
        result = redact(data)
    elif isinstance(data, Mapping):
        result = {redacted(key): redacted(value) for key, value in data.items()}
    elif isinstance(data, list | tuple):
        result = [redacted(value) for value in data]
    return result


def require_none(data: Any, where: str) -> None:
    """Raise a `UserError` if plain data holds a known secret or a URL with a password.

    Parameters are recorded in `dvc.lock`, in checkpoints and in what is published.
    """
    for key, text in _texts(data, ()):
        name = next((name for value, name in secrets().items() if value in text), None)
        if name is None and _PASSWORD_IN_URL.search(text):
            name = "a URL"
        if name is not None:
            what = f"{'.'.join(key)} holds the secret of {name}"
            fix = "take it out: secrets come from the environment alone"
            raise UserError(what, where=where, fix=fix)


def require_clean(paths: Iterable[Path]) -> None:
    """Raise a `UserError` if one of the files holds a known secret."""
    known = {value.encode(): name for value, name in secrets().items()}
    if not known:
        return
    overlap = max(map(len, known)) - 1
    for path in paths:
        with path.open("rb") as stream:
            tail = b""
            while chunk := stream.read(CHUNK):
                window = tail + chunk
                for value, name in known.items():
                    if value in window:
                        fix = "mend what wrote it and run that again; then change the secret"
                        raise UserError(f"holds the secret of {name}", where=str(path), fix=fix)
                tail = window[-overlap:]


def guard_logs() -> None:
    """Redact every log record of this process from now on; once is enough."""
    before = logging.getLogRecordFactory()
    if getattr(before, "redacts", False):
        return

    def make(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = before(*arguments, **options)
        try:
            record.msg, record.args = redact(record.getMessage()), ()
        except (TypeError, ValueError):
            # A record whose arguments do not fit: the handler says so, with both in its words.
            record.msg, record.args = redact(f"{record.msg} {record.args}"), ()
        if record.exc_info and record.exc_info[0] is not None:
            # Formatters print this text instead of formatting the exception themselves.
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return record

    make.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make)


def _texts(data: Any, key: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], str]]:
    if isinstance(data, str):
        yield key, data
    elif isinstance(data, Mapping):
        for name, value in data.items():
            yield from _texts(value, (*key, str(name)))
    elif isinstance(data, list | tuple):
        for number, value in enumerate(data):
            yield from _texts(value, (*key, str(number)))


def _password(url: str) -> str | None:
    try:
        found = urlsplit(url).password
    except ValueError:
        return None
    return unquote(found) if found else None
