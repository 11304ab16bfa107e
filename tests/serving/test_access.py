import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from dualvla.errors import UserError
from dualvla.serving import access

SECRETS = some.text(some.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


@settings(deadline=None)
@given(SECRETS, some.text(max_size=40))
def test_the_secret_alone_is_let_in(secret, other):
    assert access.allowed([access.headers(secret)[access.HEADER]], secret)
    assert access.allowed([f"Api-Key {secret}"], secret)
    assert access.allowed([f"Bearer {other}"], secret) == (other == secret)
    for shown in ([], ["Bearer "], [secret], [f"Basic {secret}"], [f"Bearer {secret}"] * 2):
        assert not access.allowed(shown, secret)


def test_without_a_secret_everyone_is_let_in():
    assert access.allowed([], None)
    assert access.headers(None) == {}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_token(host):
    access.require_safe(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.0.7", "robot", "localhost.robot"])
def test_any_other_host_needs_one(host):
    access.require_safe(host, "secret")
    with pytest.raises(UserError, match="without a token -> set DUALVLA_SERVE_TOKEN"):
        access.require_safe(host, None)


def test_an_empty_token_is_none_and_a_broken_one_is_not_shown(monkeypatch):
    monkeypatch.setenv(access.TOKEN, "")
    assert access.token() is None
    monkeypatch.setenv(access.TOKEN, "hush\r\nX-Injected: 1")
    with pytest.raises(UserError, match="no header can carry") as caught:
        access.token()
    assert "hush" not in str(caught.value)


def test_headers_are_not_logged_even_when_everything_is():
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        assert not access.SILENT.isEnabledFor(logging.ERROR)
    finally:
        logging.getLogger().setLevel(logging.WARNING)
