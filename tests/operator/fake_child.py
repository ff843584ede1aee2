"""A program that behaves like a worker (`--settings FILE`) or a router (`--discovery …`), for tests of the backend.

What it does wrong is named by the model: `fake:crash`, `fake:refused`, `fake:local`, `fake:stubborn`, `fake:slow`.
It keeps a grandchild running, writes what happens to it into `journal` beside its settings, and serves the HTTP
surface that the backend uses. Standard library only, so that it starts in a moment.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COUNTS = {"sent": 0, "received": 0}


def journal(folder: Path, line: str) -> None:
    descriptor = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


class Handler(BaseHTTPRequestHandler):
    settings: dict[str, Any]
    folder: Path
    born = time.monotonic()
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/ready" and time.monotonic() - self.born < 0.15:
            self.answer(503, {"phase": "load", "done": 1, "total": 2})
        elif self.path == "/ready" and (self.folder / f"{self.settings['worker']}.unready").exists():
            self.answer(503, {"phase": "drain"})
        elif self.path == "/health" and "discovery" in self.settings:
            discovery = Path(self.settings["discovery"].removeprefix("file:"))
            models: dict[str, dict[str, list[str]]] = {}
            for worker in json.loads(discovery.read_text())["workers"]:
                roles = models.setdefault(worker["deployment"], {"decode": [], "prefill": []})
                roles["prefill" if worker["role"] == "prefill" else "decode"].append(worker["url"])
            self.answer(200, {"status": "ok", "models": models})
        elif self.path == "/metrics":
            lines = [
                f'headrace_kv_transfer_bytes_total{{direction="{key}",worker="x"}} {value}.0\n'
                for key, value in COUNTS.items()
            ]
            self.answer(200, "".join(lines))
        else:
            self.answer(200, {"ok": True})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        if self.path == "/handoff/dead":
            if self.headers["authorization"] != f"Bearer {self.settings['secret']}":
                self.answer(401, {})
                return
            journal(self.folder, f"{self.settings['worker']} told dead {body['incarnation']}")
            self.answer(200, {})
        elif self.path == "/sent":
            COUNTS["sent"] += body["bytes"]
            self.answer(200, {"worker": self.settings["worker"]})
        else:
            self.complete(body)

    def complete(self, body: dict[str, Any]) -> None:
        if len(body["prompt"]) <= 3 * self.settings["block_size"] or body["max_tokens"] != 2:
            self.answer(400, {"error": "not the trial that was expected"})
            return
        prefill = "local"
        if self.settings["model"] != "fake:local" and self.headers["x-headrace-disaggregate"] == "always":
            prefill = ask(self.headers["x-headrace-prefill-workers"], 1000)
            COUNTS["received"] += 1000
        self.answer(200, {"choices": []}, {"x-headrace-prefill": prefill})

    def answer(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"content-length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def ask(url: str, size: int) -> str:
    request = urllib.request.Request(f"{url}/sent", json.dumps({"bytes": size}).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=5) as answer:
        return str(json.load(answer)["worker"])


def serve(settings: dict[str, Any], host: str, port: int, ready_file: Path) -> None:
    name = settings["worker"]
    Handler.settings, Handler.folder = settings, ready_file.parent
    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    grandchild = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    journal(Handler.folder, f"{name} started {os.getpid()} {grandchild.pid} {settings.get('incarnation', '-')}")

    def stop(number: int, frame: object) -> None:
        del number, frame
        journal(Handler.folder, f"{name} drains")
        if settings["model"] != "fake:stubborn":
            threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    temporary = ready_file.with_suffix(".part")
    temporary.write_text(json.dumps({"url": f"http://{host}:{server.server_address[1]}", "pid": os.getpid()}))
    temporary.replace(ready_file)
    sys.stderr.write(f"{name} listens\n")
    server.serve_forever(poll_interval=0.02)
    time.sleep(0.1 if settings["model"] == "fake:slow" else 0)
    journal(Handler.folder, f"{name} ends")
    grandchild.kill()
    grandchild.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--discovery", default="")
    parser.add_argument("--ready-file", type=Path)
    options = parser.parse_args()
    if options.settings is None:
        router = {"worker": "router", "model": "router", "discovery": options.discovery}
        serve(router, options.host, options.port, options.ready_file)
        return
    settings = json.loads(options.settings.read_text())
    if settings["model"] in {"fake:crash", "fake:refused"}:
        sys.stderr.write(f"loading {settings['worker']}\n")
        sys.exit("the cheese is out") if settings["model"] == "fake:crash" else sys.exit(2)
    serve(settings, settings["host"], settings["port"], Path(settings["ready_file"]))


if __name__ == "__main__":
    main()
