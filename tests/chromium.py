"""A page in Debian's chromium, driven over its DevTools protocol."""

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

needed = pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
PATIENCE = 60.0
MODIFIERS = {"Shift": 8}


def wait(found: Callable[[], Any]) -> Any:
    """What `found` gives once that is true."""
    end = time.monotonic() + PATIENCE
    while not (value := found()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return value


@dataclass
class Page:
    """An open page."""

    socket: ClientConnection
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def call(self, method: str, **params: Any) -> Any:
        """One DevTools command and its result; events are dropped."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv(timeout=PATIENCE))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def value(self, expression: str) -> Any:
        """A JavaScript expression's value."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key: `b`, `Enter`, `Shift+ArrowRight`."""
        *held, key = key.split("+")
        event = {"key": key, "modifiers": sum(MODIFIERS[name] for name in held)}
        self.call("Input.dispatchKeyEvent", type="rawKeyDown", **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def shoot(self, path: Path) -> None:
        """Write a screenshot as JPEG."""
        shot = self.call("Page.captureScreenshot", format="jpeg", quality=80)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def page(url: str, folder: Path, size: tuple[int, int] = (1200, 860)) -> Iterator[Page]:
    """Open `url` in a browser of its own, whose state lies in `folder`."""
    command = ["chromium", "--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update"]
    command += ["--no-sandbox"] if os.getuid() == 0 else []
    command += ["--remote-debugging-port=0", f"--user-data-dir={folder}"]
    command += [f"--window-size={size[0]},{size[1]}", url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            port = folder / "DevToolsActivePort"
            wait(lambda: port.is_file() and port.read_text().count("\n"))
            address = f"http://127.0.0.1:{port.read_text().split()[0]}/json/list"

            def target() -> str | None:
                with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
                    pages = [one for one in json.load(answer) if one["url"].startswith(url)]
                return pages[0]["webSocketDebuggerUrl"] if pages else None

            with connect(wait(target), max_size=None, proxy=None) as socket:
                yield Page(socket)
        finally:
            browser.terminate()
