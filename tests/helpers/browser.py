"""A real browser: Chromium without a window, driven by its DevTools protocol over two pipes.

Its messages are JSON that ends with a zero byte (``--remote-debugging-pipe``), so that neither a
driver nor a library is needed, and no port.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Seconds that anything may take on a machine that is busy.
PATIENCE = 60.0
_KEYS = {
    "Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, ""), "Backspace": (8, ""),
    "ArrowLeft": (37, ""), "ArrowUp": (38, ""), "ArrowRight": (39, ""), "ArrowDown": (40, ""),
    "Home": (36, ""), "End": (35, ""), " ": (32, " "),
}  # fmt: skip
CTRL, SHIFT = 2, 8
#: Least contrast of all texts that are seen, and the text that has it (WCAG 2.1, 1.4.3).
CONTRAST = """(() => {
  const channels = (text) => text.match(/[0-9.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const over = ([r, g, b, opacity = 1], back) =>
    [r, g, b].map((value, i) => opacity * value + (1 - opacity) * back[i]);
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    const color = channels(getComputedStyle(element).backgroundColor);
    return color.length === 3 ? color : over(color, behind(element.parentElement));
  };
  const worst = [99, ""];
  const look = (element, text) => {
    const seen = { visibilityProperty: true, opacityProperty: true };
    if (!element.checkVisibility(seen) || !text.trim()) return;
    const back = behind(element);
    const [a, b] = [over(channels(getComputedStyle(element).color), back), back].map(light);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst.splice(0, 2, ratio, text.trim());
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) look(texts.currentNode.parentElement, texts.currentNode.data);
  document.querySelectorAll("input[type=text]").forEach(input => look(input, input.value));
  return worst;
})()"""


@cache
def find_browser() -> str | None:
    """The browser's program, or None where there is none that starts."""
    for program in filter(None, map(shutil.which, NAMES)):
        # Some systems have a program of this name that says how to get one.
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run([program, "--version"], capture_output=True, timeout=PATIENCE)
            if done.returncode == 0:
                return program
    return None


class Browser:
    """A page in a browser of its own.

    Attributes:
        faults: Errors that the page has had: exceptions, and what the console was given as one.
    """

    def __init__(self, width: int = 1400, height: int = 900) -> None:
        program = find_browser()
        assert program is not None
        self._home = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        self.downloads = Path(self._home.name) / "downloads"
        self.downloads.mkdir()
        read, self._write = os.pipe()
        self._read, write = os.pipe()
        # Descriptors 3 and 4: where the browser reads and writes.
        script = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
        flags = [
            "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--no-first-run",
            "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            f"--user-data-dir={self._home.name}/profile", f"--window-size={width},{height}",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", str(read), str(write), program, *flags, "about:blank"],
            pass_fds=(read, write), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "HOME": self._home.name},
        )  # fmt: skip
        os.close(read)
        os.close(write)
        self._buffer, self._number = b"", 0
        self._events: deque[dict[str, Any]] = deque(maxlen=1000)
        self.faults: list[str] = []
        self._session: str | None = None
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(each["targetId"] for each in targets if each["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for name in ("Page", "Runtime", "Log"):
            self.call(f"{name}.enable")
        self.call("Browser.setDownloadBehavior", behavior="allow", eventsEnabled=True,
                  downloadPath=str(self.downloads))  # fmt: skip
        self.resize(width, height)

    def close(self) -> None:
        """Ends the browser."""
        with contextlib.suppress(OSError, AssertionError):
            self._session = None
            self._send("Browser.close", {})
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._home.cleanup()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Calls a method of the protocol."""
        number = self._send(method, params)
        end = time.monotonic() + PATIENCE
        while True:
            message = self._message(end)
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message.get("result", {})

    def _send(self, method: str, params: dict[str, Any]) -> int:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None and not method.startswith("Browser."):
            message["sessionId"] = self._session
        data = memoryview(json.dumps(message).encode() + b"\0")
        while data:
            data = data[os.write(self._write, data) :]
        return self._number

    def _message(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            piece = os.read(self._read, 2**20)
            assert piece, "the browser has ended"
            self._buffer += piece
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            said = details.get("exception", {}).get("description") or details["text"]
            self.faults.append(said)
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            # Unsaved changes: nobody is asked where nobody has touched the page.
            if "beforeunload" not in params["entry"]["text"]:
                self.faults.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif message.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.faults.append(str(params["args"]))
        elif message.get("method") == "Page.javascriptDialogOpening":
            # Unsaved changes: leave all the same.
            self._send("Page.handleJavaScriptDialog", {"accept": True})
        elif "method" in message:
            self._events.append(message)

    def open(self, page: Path) -> None:
        """Loads a page from the disk, and waits until it is loaded."""
        self._events.clear()
        self.call("Page.navigate", url=page.absolute().as_uri())
        end = time.monotonic() + PATIENCE
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._message(end)

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript; a promise is waited for."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)  # fmt: skip
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Waits until an expression is true, and returns its value."""
        end = time.monotonic() + PATIENCE
        while not (value := self.run(expression)):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.02)
        return value

    def resize(self, width: int, height: int) -> None:
        """Gives the page a size in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip

    def scheme(self, name: str) -> None:
        """Prefers light or dark colors."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def click(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """Clicks an element by the mouse, at shares of its sides, if it is what lies there."""
        # Frames: what has just scrolled, or moves as images come, is hit where it was a frame ago.
        at = self.run(f"""(async () => {{
            const frame = () => new Promise((next) => requestAnimationFrame(() => next()));
            const element = document.querySelector({json.dumps(selector)});
            const point = () => {{ const box = element.getBoundingClientRect();
                return [box.left + box.width * {x}, box.top + box.height * {y}]; }};
            const hit = () => document.elementFromPoint(...point());
            const lies = () => {{ const found = hit();
                return found && (element.contains(found) || found.contains(element)); }};
            const end = performance.now() + 20000;
            for (let still = 0; still < 3 && performance.now() < end;) {{
                element.scrollIntoView({{block: "nearest"}});
                if (!lies()) element.scrollIntoView({{block: "center"}});
                const before = String(point());
                await frame();
                still = lies() && String(point()) === before ? still + 1 : 0;
            }}
            return lies() ? point() : `${{hit() && hit().outerHTML.slice(0, 200)}} lies there`;
        }})()""")
        assert isinstance(at, list), f"{selector}: {at}"
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], button="left",
                      clickCount=1)  # fmt: skip

    def key(self, name: str, modifiers: int = 0) -> None:
        """Presses a key."""
        code, text = _KEYS[name] if name in _KEYS else (ord(name.upper()), name)
        if modifiers & CTRL:
            text = ""
        options = {"key": name, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **options)
        self.call("Input.dispatchKeyEvent", type="keyUp", **options)

    def type(self, text: str) -> None:
        """Types a text."""
        self.call("Input.insertText", text=text)

    def choose_file(self, selector: str, path: Path) -> None:
        """Gives a file to an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def downloaded(self, name: str) -> Path:
        """A file that the page has downloaded, once it is whole."""
        end = time.monotonic() + PATIENCE

        def is_done(event: dict[str, Any]) -> bool:
            return (event["method"], event["params"].get("state")) == (
                "Browser.downloadProgress", "completed",
            )  # fmt: skip

        while not any(map(is_done, self._events)):
            self._message(end)
        self._events.clear()
        return self.downloads / name

    def screenshot(self, path: Path) -> None:
        """Writes a picture of what is seen."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def browsing(width: int = 1400, height: int = 900) -> Iterator[Browser]:
    """A browser that is ended afterwards."""
    browser = Browser(width, height)
    try:
        yield browser
    finally:
        browser.close()
