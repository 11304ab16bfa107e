"""A policy that runs elsewhere: ours behind `dualvla serve`, or anyone's behind openpi's interface.

A server of ours gets one message for a whole batch and gives what its policy would give here, bit
for bit. Of any other, each slot has its own connection, opened anew for every episode: whatever it
remembers belongs to a connection at best, and it knows neither slots nor seeds.

What goes wrong on the way is one `UserError`. An episode is not taken up again after a lost
connection, as the server's memory of it is gone with it; the evaluator's ledger is what a stopped
run resumes from.
"""

import socket
import struct
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync import client

from dualvla.errors import UserError
from dualvla.interface import Decision, Observation
from dualvla.serving import access, codec, messages

OPENING = 10.0  # seconds until a server must have taken the connection
ANSWER = 120.0  # seconds until it must have greeted, and answered a request
CLOSING = 1.0  # seconds that it may take to say goodbye
AGAIN = "look at the server, start it again and repeat the command"


class RemotePolicy:
    """`interface.Policy` of a server.

    Args:
        url: such as ws://127.0.0.1:8000; wss:// too.
        timeout: seconds that an answer may take.

    Raises:
        UserError: it cannot be reached, refuses the token of DUALVLA_SERVE_TOKEN, declares no
            convention or speaks another protocol.
    """

    def __init__(self, url: str, *, timeout: float = ANSWER) -> None:
        self.url, self.timeout = _checked(url), timeout
        self._secret = access.token()
        self._connections: dict[int, client.ClientConnection] = {}
        self._seeds: dict[int, int] = {}  # of slots whose episode begins with the next observation
        connection, greeting = self._open()
        try:
            self.facts = messages.read_facts(greeting, url)
        except UserError:
            connection.close()
            raise
        self.convention, self.reason = self.facts.convention, self.facts.reason
        self.fingerprint = messages.fingerprint(greeting)
        if self.facts.ours:
            self._connections[0] = connection
        else:
            connection.close()

    def reset(self, slot: int, instruction: str, seed: int) -> None:
        """Begin an episode; the server hears of it with the first observation."""
        self._seeds[slot] = seed

    def act(self, slots: Sequence[int], observations: Sequence[Observation]) -> list[Decision]:
        """One decision a slot, its actions as the server gave them.

        Raises:
            UserError: the server hung up, refused, was too slow or gave no actions.
        """
        seeds = self._seeds
        whose = [messages.Episode(slot, seeds.get(slot, 0), slot in seeds) for slot in slots]
        pairs = zip(observations, whose, strict=True)
        requests = [messages.write_request(seen, self.facts, episode) for seen, episode in pairs]
        try:
            if self.facts.ours:
                answer = self._ask(0, {messages.BATCH: requests})
                decisions = messages.read_answers(answer, len(slots), self.url)
            else:
                decisions = []
                for episode, request in zip(whose, requests, strict=True):
                    if episode.begins:
                        self._hang_up(episode.slot)
                    answer = self._ask(episode.slot, request)
                    decisions += messages.read_answers(answer, None, self.url)
        except UserError:
            self.close()
            raise
        for slot in slots:
            seeds.pop(slot, None)
        return decisions

    def close(self) -> None:
        """Hang up; what is asked next opens a new connection."""
        for key in list(self._connections):
            self._hang_up(key)

    def _hang_up(self, key: int) -> None:
        if connection := self._connections.pop(key, None):
            connection.close()

    def _ask(self, key: int, request: dict[str, Any]) -> Any:
        """The answer to one message on a connection: 0 of our server, else the slot."""
        if key not in self._connections:
            self._connections[key], greeting = self._open()
            if messages.fingerprint(greeting) != self.fingerprint:
                raise UserError("is another policy than before", where=self.url, fix=AGAIN)
        connection = self._connections[key]
        try:
            connection.send(codec.encode(request))
        except ValueError as error:
            raise UserError(str(error), where=self.url, fix="use fewer workers") from error
        except ConnectionClosed:
            pass  # what it said before it hung up may still be read
        return self._receive(connection)

    def _receive(self, connection: client.ClientConnection) -> Any:
        try:
            answer = connection.recv(self.timeout)
        except TimeoutError as error:
            what = f"the policy server did not answer in {self.timeout:g} s"
            raise UserError(what, where=self.url, fix=AGAIN) from error
        except ConnectionClosed as error:
            what = f"the policy server hung up ({error})"
            raise UserError(what, where=self.url, fix=AGAIN) from error
        if isinstance(answer, str):
            # An openpi server sends a whole traceback, the error in its last line.
            said = (answer.strip().splitlines() or ["it did not say why"])[-1]
            raise UserError(f"the policy server refused: {said:.500}", where=self.url)
        try:
            return codec.decode(answer)
        except ValueError as error:
            what = f"the policy server's answer cannot be read: {error}"
            raise UserError(what, where=self.url, fix="see docs/serving.md") from error

    def _open(self) -> tuple[client.ClientConnection, Any]:
        """A new connection, and the server's first message on it."""
        try:
            connection = client.connect(
                self.url,
                additional_headers=access.headers(self._secret),
                compression=None,
                proxy=None,  # would be shown the token
                open_timeout=OPENING,
                close_timeout=CLOSING,
                ping_interval=None,  # an answer that does not come is noticed by its time
                max_size=codec.MAX_BYTES,
                logger=access.SILENT,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            if status in (401, 403):
                fix = f"set {access.TOKEN} to what it is at the server"
                raise UserError("refuses this token, or none", where=self.url, fix=fix) from error
            raise UserError(f"answers HTTP status {status}", where=self.url) from error
        except (InvalidHandshake, EOFError) as error:
            what = f"is no policy server: {error}"
            raise UserError(what, where=self.url, fix="check host and port") from error
        except OSError as error:
            fix = "start one: dualvla serve CHECKPOINT --port PORT"
            what = f"no policy server can be reached: {error}"
            raise UserError(what, where=self.url, fix=fix) from error
        # Without it a server that stopped reading would hold a large message forever.
        seconds = struct.pack("ll", int(self.timeout) + 1, 0)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
        try:
            return connection, self._receive(connection)
        except UserError:
            connection.close()
            raise


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits or "@" in url:
        raise UserError("not the address of a policy server", fix="such as ws://127.0.0.1:8000")
    return url
