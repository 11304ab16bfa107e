"""A policy behind a websocket: robots and other people's harnesses drive it, several at once.

Connections are answered by one event loop and the policy by one thread, so that requests of several
connections take turns. A slot belongs to its connection: the same number elsewhere is another
episode. What the client did wrong is answered as a text and ends only the episodes it concerned;
a defect of the policy is answered as a text and ends the connection.

The alternative, waiting a moment to batch what several connections ask, would gain on a GPU and
cost every robot that moment; a client that has a batch sends one.
"""

import asyncio
import itertools
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from websockets.asyncio import server as websockets
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from dualvla import conventions, progress
from dualvla.errors import UserError
from dualvla.interface import Decision, Policy
from dualvla.serving import access, codec, messages
from dualvla.serving.messages import Facts

HOST, PORT = "127.0.0.1", 8000
HEALTH = "/healthz"
PATIENCE = 120.0  # seconds a silent client is waited for


def serve(
    policy: Policy, facts: Facts, host: str = HOST, port: int = PORT, *, ready: Callable[[str], Any]
) -> None:
    """Answer until Ctrl-C or SIGTERM.

    Args:
        policy: what acts.
        facts: what clients are told of it.
        host: address to bind to; another than loopback wants a token in the environment.
        port: 0 takes a free one.
        ready: called with the server's URL once it answers.

    Raises:
        UserError: an address that others reach without a token, or that cannot be used.
    """
    secret = access.token()
    access.require_safe(host, secret)
    asyncio.run(_Server(policy, facts, secret).run(host, port, ready))


@dataclass(frozen=True)
class _Running:
    """A connection's episode: the policy's slot and what was asked for."""

    slot: int
    prompt: str


Episodes = dict[int, _Running]  # by the client's slot


class _Server:
    def __init__(self, policy: Policy, facts: Facts, secret: str | None) -> None:
        self.policy, self.facts, self.secret = policy, facts, secret
        self.taken: set[int] = set()  # slots of the policy
        # Policies and these slots are this one thread's alone.
        self.thread = ThreadPoolExecutor(1)

    async def run(self, host: str, port: int, ready: Callable[[str], Any]) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        serving = websockets.serve(
            self.talk,
            host,
            port,
            origins=[None],
            compression=None,  # of pictures it costs more than it saves
            process_request=self.admit,
            server_header=None,
            ping_timeout=PATIENCE,
            max_size=codec.MAX_BYTES,
            logger=access.SILENT,
        )
        try:
            server = await serving
        except (OSError, OverflowError) as error:
            fix = "choose another --host or --port; --port 0 takes a free one"
            where = f"{host}:{port}"
            raise UserError(f"cannot be used: {error}", where=where, fix=fix) from error
        bound = next(iter(server.sockets)).getsockname()[1]
        ready(f"ws://{f'[{host}]' if ':' in host else host}:{bound}")
        await stop.wait()
        server.close()
        await server.wait_closed()

    def admit(self, connection: websockets.ServerConnection, request: Request) -> Response | None:
        """Answer to a request that is not to become a websocket."""
        if request.path == HEALTH:
            return connection.respond(HTTPStatus.OK, "OK\n")
        if not access.allowed(request.headers.get_all(access.HEADER), self.secret):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "a token is wanted, or another\n")
        return None

    async def talk(self, connection: websockets.ServerConnection) -> None:
        """Serve one connection to its end."""
        peer = "{}:{}".format(*connection.remote_address)
        progress.log(f"{peer} connected")
        episodes: Episodes = {}
        try:
            await connection.send(codec.encode(messages.write_facts(self.facts)))
            async for message in connection:
                await connection.send(await self._in_thread(self.respond, episodes, message))
        except ConnectionClosed:
            pass  # its end is logged below, however it came
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            await connection.send(f"the policy failed: {type(error).__name__}: {error}")
            await connection.close(CloseCode.INTERNAL_ERROR)
        finally:
            await self._in_thread(self.release, episodes, list(episodes))
            progress.log(f"{peer} left")

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.thread, function, *arguments)

    def respond(self, episodes: Episodes, message: bytes | str) -> bytes | str:
        """The answer to a message: bytes, or a text that says what is wrong with it."""
        begin = time.perf_counter()
        slots: list[int] = []
        try:
            if isinstance(message, str):
                raise UserError("a request is a binary message, this was a text")  # noqa: TRY301
            content = codec.decode(message)
            requests = messages.read_requests(content, self.facts.requires)
            slots = [request.episode.slot for request in requests]
            decisions = self.decide(episodes, requests)
            answers = [messages.write_answer(decision) for decision in decisions]
            if messages.BATCH in content:
                answer: dict[str, Any] = {messages.BATCH: answers}
            else:
                answer = answers[0]
                # Behind a batch stands an evaluator that records this; here it may be a robot.
                if fault := conventions.fault(decisions[0].actions):
                    raise UserError(f"the policy answered {fault}")  # noqa: TRY301
            timing = {"infer_ms": 1000 * (time.perf_counter() - begin)}
            return codec.encode(answer | {"server_timing": timing})
        except (UserError, ValueError) as error:
            self.release(episodes, slots)
            return str(error)

    def decide(self, episodes: Episodes, requests: list[messages.Request]) -> list[Decision]:
        """The policy's decisions, in the requests' order."""
        for request in requests:
            self._begin(episodes, request)
        slots = [episodes[request.episode.slot].slot for request in requests]
        return self.policy.act(slots, [request.observation for request in requests])

    def _begin(self, episodes: Episodes, request: messages.Request) -> None:
        whose, prompt = request.episode, request.observation.instruction
        running = episodes.get(whose.slot)
        begins = whose.begins
        if begins is None:
            begins = running is None or running.prompt != prompt
        if not begins:
            if running is None:
                where = f"slot {whose.slot}"
                raise UserError("no episode runs in it", where=where, fix="begin with reset: true")
            return
        slot = (
            next(i for i in itertools.count() if i not in self.taken)
            if running is None
            else running.slot
        )
        self.taken.add(slot)
        episodes[whose.slot] = _Running(slot, prompt)
        self.policy.reset(slot, prompt, whose.seed)

    def release(self, episodes: Episodes, slots: Iterable[int]) -> None:
        """End episodes of a connection."""
        for slot in slots:
            if slot in episodes:
                self.taken.remove(episodes.pop(slot).slot)
