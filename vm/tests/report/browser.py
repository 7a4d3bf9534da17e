"""A headless Chromium, told what to do over its pipe: DevTools protocol, NUL-terminated JSON on descriptors 3 and 4."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vm.tests.harness import poll

SECONDS = 60.0
_CODES = {"Enter": 13, "Escape": 27, "ArrowUp": 38, "ArrowDown": 40, "ArrowLeft": 37, "ArrowRight": 39}
PROGRAM = shutil.which("chromium") or ""


class Browser:
    """One page in one browser.

    Args:
        directory: for its profile; empty.
        arguments: further ones for Chromium.
    """

    def __init__(self, directory: Path, *arguments: str) -> None:
        from_us, to_us = os.pipe(), os.pipe()
        self._write, self._read = from_us[1], to_us[0]
        words = [PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        words += ["--disable-background-networking", f"--user-data-dir={directory}", "--remote-debugging-pipe"]
        # Above those that Chromium wants them to be.
        theirs = [fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (from_us[0], to_us[1])]
        actions = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
        duplicates = [(os.POSIX_SPAWN_DUP2, each, number) for number, each in enumerate(theirs, 3)]
        self._pid = os.posix_spawn(
            PROGRAM, [*words, *arguments, "about:blank"], os.environ, file_actions=[*actions, *duplicates], setsid=True
        )
        for each in (from_us[0], to_us[1], *theirs):
            os.close(each)
        self._unread = b""
        self._number = 0
        self._session = ""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Page.enable")
        self.requests: list[str] = []
        self._call("Network.enable")

    def close(self) -> None:
        """End it and all of its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._write)
        os.close(self._read)

    def open(self, url: str, *, script: bool = True) -> None:
        """Open a page, and wait until it has drawn its rows; without ``script``, until it is loaded."""
        self._call("Emulation.setScriptExecutionDisabled", value=not script)
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=url)
        drawn = "document.documentElement?.dataset.ready !== undefined"
        done = drawn if script else "document.readyState == 'complete'"
        self.wait(f"location.href != 'about:blank' && {done}")

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript.

        Raises:
            AssertionError: it throws.
        """
        said = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression holds."""
        poll(lambda: bool(self.evaluate(condition)), SECONDS, f"never true: {condition}")

    def press(self, key: str, *, text: str = "") -> None:
        """Press a key."""
        code = {"Enter": 13, "Escape": 27, "ArrowUp": 38, "ArrowDown": 40, "ArrowLeft": 37, "ArrowRight": 39}.get(
            key, 0
        )
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            self._call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **typed)

    def emulate(self, width: int, height: int, *, dark: bool = False, telephone: bool = False) -> None:
        """Have a screen of that size, light or dark."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=telephone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        """Write what is shown as PNG."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def accessibility(self) -> list[dict[str, Any]]:
        """Return what a screen reader is told: the nodes of the tree that are not passed over."""
        nodes = self._call("Accessibility.getFullAXTree")["nodes"]
        return [node for node in nodes if not node.get("ignored")]

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        said: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            said["sessionId"] = self._session
        os.write(self._write, json.dumps(said).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + SECONDS
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            assert ready, "Chromium does not answer"
            data = os.read(self._read, 1 << 20)
            assert data, "Chromium has ended"
            self._unread += data
        message, _, self._unread = self._unread.partition(b"\0")
        said: dict[str, Any] = json.loads(message)
        if said.get("method") == "Network.requestWillBeSent":
            self.requests.append(said["params"]["request"]["url"])
        return said


@contextlib.contextmanager
def started(directory: Path, *arguments: str) -> Iterator[Browser]:
    """Give a browser for the block."""
    browser = Browser(directory, *arguments)
    try:
        yield browser
    finally:
        browser.close()
