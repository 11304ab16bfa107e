"""Servers in processes of their own: what they answer is what their policy would answer here."""

import contextlib
import signal
import urllib.request

import numpy as np
import pytest
import torch
from served import (
    assert_same,
    observation,
    openpi_client,
    plain_request,
    played,
    process,
    random_policy,
)
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync import client

from dualvla.errors import UserError
from dualvla.serving import access, codec
from dualvla.serving.client import RemotePolicy
from dualvla.simulation.random_policy import RandomPolicy


@pytest.fixture(scope="module")
def random_url():
    with random_policy() as (_, url):
        yield url


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A checkpoint, and the address of a server of it."""
    from tiny_policy import policy as tiny_policy

    folder = tmp_path_factory.mktemp("tiny")
    tiny_policy().write(folder, resolved={}, environment={})
    options = ("--port", "0", "--seed", "5", "--threads", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the server's: sums round by how they are shared out
    with process("-m", "dualvla.cli", "serve", str(folder), *options) as (_, url):
        yield folder, url
    torch.set_num_threads(threads)


def test_the_random_policy_acts_as_it_does_here(random_url):
    assert_same(played(RemotePolicy(random_url)), played(RandomPolicy()))


@pytest.mark.slow
def test_a_checkpoint_acts_as_it_does_here_and_says_what_it_is(tiny):
    from dualvla.evaluation import policies

    folder, url = tiny
    here = policies.open_policy(str(folder), assets="generated", seed=5, actions=None)
    there = policies.open_policy(url, assets="generated", seed=0, actions=None)
    decisions = played(there.policy)
    assert_same(decisions, played(here.policy))
    assert any(decision.text for decision in decisions)
    assert there.policy.convention == here.policy.convention
    assert there.reason == here.reason == "auto"
    facts = there.policy.facts
    assert (facts.chunk, facts.action_horizon, facts.checkpoint) == (4, 4, here.fingerprint)


@pytest.mark.slow
def test_an_openpi_client_drives_a_checkpoint(tiny):
    with openpi_client(tiny[1]) as (infer, metadata):
        assert metadata["project"] == "dualvla"
        assert metadata["convention"]["gripper"] == "absolute, +1 open, -1 closed"
        assert metadata["requires"] == ["observation/image", "observation/state", "prompt"]
        answer = infer(plain_request(observation()))
        assert answer["actions"].shape == (4, 7)
        assert answer["actions"].dtype == np.float32
        assert isinstance(answer["text"], str)
        assert answer["tokens"] > 1
        assert answer["server_timing"]["infer_ms"] > 0
        again = infer(plain_request(observation()))
        assert infer(plain_request(observation(), episode={"reset": True}))["tokens"] > 1
    with openpi_client(tiny[1]) as (infer, _):
        first = infer(plain_request(observation()))
        np.testing.assert_array_equal(first["actions"], answer["actions"])
        second = infer(plain_request(observation()))
        np.testing.assert_array_equal(second["actions"], again["actions"])


def test_another_prompt_begins_another_episode(random_url):
    def asked(*prompts):
        with openpi_client(random_url) as (infer, _):
            return [infer(plain_request(observation(0, prompt)))["actions"] for prompt in prompts]

    first, second, third = asked("stack", "stack", "put")
    np.testing.assert_array_equal(first, third)
    assert not np.array_equal(first, second)


def test_a_slot_belongs_to_its_connection(random_url):
    alone = played(RemotePolicy(random_url))
    one, other = RemotePolicy(random_url), RemotePolicy(random_url)
    one.reset(0, "put", 3)
    other.reset(0, "put", 3)
    mine = [one.act([0], [observation(0, "put")])[0]]
    other.act([0], [observation(0, "put")])
    with openpi_client(random_url) as (infer, _):
        infer(plain_request(observation()))
    other.close()
    mine += one.act([0], [observation(1, "put")])
    mine += one.act([0], [observation(1, "put")])
    assert_same(mine, [alone[i] for i in (0, 3, 6)])


def test_what_a_client_does_wrong_ends_its_episode_and_not_its_connection(random_url):
    with openpi_client(random_url) as (infer, _):
        first = infer(plain_request(observation()))
        with pytest.raises(RuntimeError, match="observation/state: not 7 finite numbers"):
            infer(plain_request(observation()) | {"observation/state": np.zeros(3)})
        with pytest.raises(RuntimeError, match="no episode runs in it"):
            infer(plain_request(observation(), episode={"slot": 2, "reset": False}))
        assert infer(plain_request(observation()))["actions"].shape == first["actions"].shape
    with client.connect(random_url) as connection:
        connection.recv()
        for sent, refused in ((b"\xc1", "not msgpack"), ("hello", "this was a text")):
            connection.send(sent)
            assert refused in connection.recv()
        connection.send(codec.encode(plain_request(observation())))
        assert "actions" in codec.decode(connection.recv())


def test_a_message_over_the_limit_ends_its_connection_alone(random_url):
    with client.connect(random_url, compression=None) as connection:
        connection.recv()
        with contextlib.suppress(ConnectionClosed):  # while it is still being sent
            connection.send(bytes(codec.MAX_BYTES + 1))
        with pytest.raises(ConnectionClosed, match="1009"):
            connection.recv()
    assert played(RemotePolicy(random_url))


def test_the_expert_is_served_and_wants_its_state():
    from dualvla.simulation.expert import Expert

    seen = observation(instruction="put carrot on plate")
    here = Expert("generated")
    here.reset(0, seen.instruction, 0)
    with process("-m", "dualvla.cli", "serve", "expert", "--port", "0") as (_, url):
        there = RemotePolicy(url)
        there.reset(0, seen.instruction, 0)
        assert_same(there.act([0], [seen]), here.act([0], [seen]))
        with (
            openpi_client(url) as (infer, _),
            pytest.raises(RuntimeError, match="without observation/controller, observation/env"),
        ):
            infer(plain_request(seen))
        there.reset(0, "dance", 0)
        with pytest.raises(UserError, match="refused: the expert knows no task 'dance'"):
            there.act([0], [observation(instruction="dance")])


def healthy(url):
    with urllib.request.urlopen(url.replace("ws", "http") + "/healthz", timeout=60) as answer:
        return answer.read() == b"OK\n"


def test_a_web_page_is_refused(random_url):
    assert healthy(random_url)
    with pytest.raises(InvalidStatus, match="403"):
        client.connect(random_url, origin="http://127.0.0.1:8000")


def test_a_token_is_wanted_where_one_is_set(monkeypatch):
    with random_policy("0.0.0.0", **{access.TOKEN: "open-sesame"}) as (running, bound):
        url = bound.replace("0.0.0.0", "127.0.0.1")
        assert healthy(url)
        for wrong in ("", "open-sesam", "open-sesame2"):
            monkeypatch.setenv(access.TOKEN, wrong)
            with pytest.raises(UserError, match="refuses this token, or none -> set DUALVLA_SERVE"):
                RemotePolicy(url)
        monkeypatch.setenv(access.TOKEN, "open-sesame")
        assert_same(played(RemotePolicy(url)), played(RandomPolicy()))
        running.send_signal(signal.SIGTERM)
        said = "".join(running.communicate(timeout=120))
        assert running.returncode == 0
        assert "connected" in said
        assert "sesam" not in said


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        (["random", "--host", "0.0.0.0"], "0.0.0.0: others could reach this address without a"),
        (["ws://127.0.0.1:1"], "a policy of another server"),
        (["models/none"], "no such policy: models/none"),
        (["random", "--reason", "loudly"], "no such way of reasoning: loudly"),
        (["expert", "--assets", "real"], "no such asset pack: real"),
    ],
)
def test_bad_arguments_are_one_line(arguments, refused, monkeypatch, capsys):
    from dualvla import cli

    monkeypatch.delenv(access.TOKEN, raising=False)
    monkeypatch.setattr("sys.argv", ["dualvla", "serve", "--port", "0", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert refused in said
    assert said.count("\n") == 1


def test_a_taken_port_is_one_line(random_url):
    from dualvla.conventions import WIDOWX_SIMULATION
    from dualvla.serving import messages, server

    port = int(random_url.rpartition(":")[2])
    facts = messages.Facts("random", WIDOWX_SIMULATION)
    with pytest.raises(UserError, match=f"^127.0.0.1:{port}: cannot be used: .* -> choose another"):
        server.serve(RandomPolicy(), facts, port=port, ready=print)
