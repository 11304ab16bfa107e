"""A client whose server goes away, is slow, or says something else than actions."""

import signal
import socket
import threading

import numpy as np
import pytest
from served import answering, observation, random_policy
from websockets.server import ServerProtocol

from dualvla import conventions
from dualvla.conventions import WIDOWX_SIMULATION
from dualvla.errors import UserError
from dualvla.serving import codec, messages
from dualvla.serving.client import RemotePolicy

ACTIONS = np.zeros((2, 7), np.float32)
FACTS = messages.Facts("fake", WIDOWX_SIMULATION)


def ask(policy, slots=(0,), size=8):
    return policy.act(slots, [observation(slot, size=size) for slot in slots])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_ends_in_the_middle_is_one_error(number):
    with random_policy() as (running, url):
        policy = RemotePolicy(url)
        policy.reset(0, "put", 0)
        ask(policy)
        running.send_signal(number)
        running.wait(120)
        with pytest.raises(UserError, match=f"^{url}: the policy server hung up .* -> look at the"):
            ask(policy)
        with pytest.raises(
            UserError, match=f"^{url}: no policy server can be reached: .* -> start"
        ):
            ask(policy)


def test_a_server_that_is_not_there_is_one_error():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(UserError, match=f"^{url}: no policy server can be reached"):
            RemotePolicy(url)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "http://127.0.0.1", "ws://", "ws://h:x", "ws://me:secret@h:1"]
)
def test_what_is_no_address_is_refused_and_not_shown(url):
    with pytest.raises(UserError, match="not the address of a policy server") as caught:
        RemotePolicy(url)
    assert "secret" not in str(caught.value)


def test_a_stopped_server_is_not_waited_for_forever():
    with random_policy() as (running, url):
        policy = RemotePolicy(url, timeout=4)
        policy.reset(0, "put", 0)
        running.send_signal(signal.SIGSTOP)
        with pytest.raises(UserError, match="did not answer in 4 s"):
            ask(policy)


def test_a_server_that_stops_reading_does_not_hold_a_large_message_forever():
    greeting = messages.write_facts(FACTS)
    with socket.create_server(("127.0.0.1", 0)) as deaf:

        def greet():
            peer, _ = deaf.accept()
            protocol = ServerProtocol()
            protocol.receive_data(peer.recv(65536))
            protocol.send_response(protocol.accept(protocol.events_received()[0]))
            protocol.send_binary(codec.encode(greeting))
            for data in protocol.data_to_send():
                peer.sendall(data)
            ended.wait(120)
            peer.close()

        ended = threading.Event()
        thread = threading.Thread(target=greet)
        thread.start()
        try:
            policy = RemotePolicy(f"ws://127.0.0.1:{deaf.getsockname()[1]}", timeout=4)
            policy.reset(0, "put", 0)
            with pytest.raises(UserError, match=r"hung up|did not answer"):
                ask(policy, size=2600)
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"\xc1", "cannot be read: not msgpack"),
        (codec.encode([1]), "without an array of numbers"),
        (codec.encode({}), "without an array of numbers"),
        (codec.encode({"actions": [[0.0] * 7]}), "without an array of numbers"),
        (codec.encode({"actions": np.zeros((1, 7), bool)}), "without an array of numbers"),
        (codec.encode({"actions": ACTIONS, "text": 3}), "`text` that is no text"),
        ("Traceback:\n  line 3\nKeyError: 'image'\n", "refused: KeyError: 'image'$"),
        ("", "refused: it did not say why"),
        (None, "hung up"),
    ],
)
def test_an_answer_that_is_no_decision_is_one_error(said, message):
    with answering(lambda request: said) as url:
        policy = RemotePolicy(url)
        policy.reset(0, "put", 0)
        with pytest.raises(UserError, match=f"^{url}: .*{message}"):
            ask(policy)


@pytest.mark.parametrize("actions", [ACTIONS * np.nan, ACTIONS[:, :6], ACTIONS[:0], ACTIONS + 9])
def test_actions_that_are_wrong_are_left_to_the_evaluator_to_record(actions):
    with answering(lambda request: codec.encode({"actions": actions})) as url:
        policy = RemotePolicy(url)
        policy.reset(0, "put", 0)
        (decision,) = ask(policy)
        assert conventions.fault(decision.actions)


def test_one_answer_too_few_is_an_error():
    one = {"batch": [{"actions": ACTIONS}]}
    with answering(lambda request: codec.encode(one), messages.write_facts(FACTS)) as url:
        policy = RemotePolicy(url)
        for slot in (0, 1):
            policy.reset(slot, "put", 0)
        with pytest.raises(UserError, match="no 2 answers to 2 requests"):
            ask(policy, (0, 1))


@pytest.mark.parametrize(
    ("greeting", "message"),
    [
        ({"reset_pose": [0]}, "declares no action convention -> its metadata must hold"),
        (b"\xc1", "cannot be read"),
        ("go away", "refused: go away"),
        ({"convention": {"robot": "widowx"}}, "not a convention"),
    ],
)
def test_a_greeting_without_a_convention_is_refused(greeting, message):
    with (
        answering(lambda request: None, greeting) as url,
        pytest.raises(UserError, match=f"^{url}: .*{message}"),
    ):
        RemotePolicy(url)


def test_other_peoples_servers_get_plain_requests_and_a_connection_an_episode():
    heard = []

    def answer(request):
        heard.append(request)
        return codec.encode({"actions": np.full((5, 7), len(heard), np.float64)})

    with answering(answer) as url:
        policy = RemotePolicy(url)
        assert policy.reason == "never"
        for slot in (0, 1):
            policy.reset(slot, "put", 0)
        decisions = ask(policy, (0, 1)) + ask(policy, (1,))
        before = dict(policy._connections)
        policy.reset(1, "put", 1)
        ask(policy, (0, 1))
        assert policy._connections[0] is before[0]
        assert policy._connections[1] is not before[1]
        policy.close()
    assert [request.keys() for request in heard] == [set(messages.PLAIN)] * 5
    np.testing.assert_array_equal(heard[1]["observation/image"], observation(1, size=8).image)
    assert [decision.actions[0, 0] for decision in decisions] == [1, 2, 3]
    assert (decisions[0].text, decisions[0].tokens) == (None, 0)


def test_another_policy_behind_the_same_address_is_noticed():
    greeting = {"convention": WIDOWX_SIMULATION.to_json(), "step": 1}
    with answering(lambda request: codec.encode({"actions": ACTIONS}), greeting) as url:
        policy = RemotePolicy(url)
        policy.reset(0, "put", 0)
        ask(policy)
        greeting["step"] = 2
        policy.reset(0, "put", 1)
        with pytest.raises(UserError, match="is another policy than before"):
            ask(policy)
