"""Secrets are found by the names of their variables and never reach text that is kept."""

import io
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualvla import config, redaction
from dualvla.errors import UserError
from dualvla.store import keys

SECRET = "planted-0123456789"


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    return SECRET


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("AWS_SECRET_ACCESS_KEY", SECRET, SECRET),
        ("HF_TOKEN", SECRET, SECRET),
        ("PREFECT_API_AUTH_STRING", f"admin:{SECRET}", SECRET),
        (
            "DUALVLA_WEBHOOK_URL",
            f"https://hooks.example/{SECRET}",
            f"https://hooks.example/{SECRET}",
        ),
        ("PREFECT_API_DATABASE_CONNECTION_URL", f"postgresql://me:{SECRET}@host/db", SECRET),
        ("OPENAI_API_KEY", SECRET, SECRET),
        ("DUALVLA_JUDGE_KEY", SECRET, SECRET),
    ],
)
def test_a_secret_is_known_by_its_variable(name, value, secret):
    assert redaction.secrets({name: value})[secret] == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENIZERS_PARALLELISM", "false-and-long"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/token"),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("HF_TOKEN", "short"),
        ("PREFECT_API_URL", "http://127.0.0.1:4200/api"),
    ],
)
def test_what_is_no_secret_is_left_alone(name, value):
    assert value not in redaction.secrets({name: value})


def test_text_and_data_are_masked(planted):
    assert redaction.redact(f"key {planted}!") == f"key {redaction.MASK}!"
    assert (
        redaction.redact("s3 at http://me:pass@host/x")
        == f"s3 at http://me:{redaction.MASK}@host/x"
    )
    data = {"a": [planted, 1, None], planted: {"b": f"x{planted}"}}
    assert redaction.redacted(data) == {
        "a": [redaction.MASK, 1, None],
        redaction.MASK: {"b": f"x{redaction.MASK}"},
    }


@given(st.text(), st.text())
def test_masking_leaves_no_secret_whatever_is_around_it(before, after):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", SECRET)
        assert SECRET not in redaction.redact(before + SECRET + after)


def test_of_two_secrets_where_one_holds_the_other_nothing_is_left(monkeypatch):
    monkeypatch.setenv("A_TOKEN", SECRET)
    monkeypatch.setenv("B_TOKEN", SECRET + "-longer")
    assert redaction.redact(SECRET + "-longer") == redaction.MASK


def test_logs_of_any_logger_are_masked_with_their_tracebacks(planted):
    before = logging.getLogRecordFactory()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("some.library")
    logger.addHandler(handler)
    try:
        redaction.guard_logs()
        redaction.guard_logs()
        logger.warning("connecting with %s", planted)
        logger.warning("100%", planted)
        try:
            raise RuntimeError(f"refused: {planted}")
        except RuntimeError:
            logger.exception("failed")
    finally:
        logging.setLogRecordFactory(before)
        logger.removeHandler(handler)
    assert planted not in stream.getvalue()
    assert f"connecting with {redaction.MASK}" in stream.getvalue()
    assert f"RuntimeError: refused: {redaction.MASK}" in stream.getvalue()


def test_parameters_may_hold_no_secret(planted, tmp_path):
    with pytest.raises(UserError, match=r"store.endpoint holds the secret of HF_TOKEN"):
        redaction.require_none({"store": {"endpoint": f"http://{planted}/"}}, "params.yaml")
    with pytest.raises(UserError, match=r"holds the secret of a URL"):
        redaction.require_none({"x": ["https://me:word@host"]}, "params.yaml")
    values = config.read_yaml(Path(__file__).parents[1] / "params.yaml")
    values["store"]["endpoint"] = f"https://{planted}.example"
    with pytest.raises(UserError, match="holds the secret of HF_TOKEN"):
        config.parse(values)


@pytest.mark.parametrize("before", [0, redaction.CHUNK - 5, redaction.CHUNK])
def test_a_file_with_a_secret_is_refused_wherever_it_stands(planted, tmp_path, before):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"\0" * before)
    redaction.require_clean([path])
    path.write_bytes(b"\0" * before + planted.encode() + b"\0")
    with pytest.raises(UserError, match="holds the secret of HF_TOKEN") as error:
        redaction.require_clean([path])
    assert planted not in str(error.value)


def test_a_key_that_was_read_is_a_secret(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    pair = keys.local(tmp_path, create=True)
    assert redaction.redact(pair.secret) == redaction.MASK
