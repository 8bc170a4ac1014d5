"""The hub's HTTP interface as far as one file goes up and comes down again, on loopback."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Files by repository, what was asked in order, and where it listens."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []
        self.address = ""


@contextmanager
def listening() -> Iterator[Hub]:
    """A hub that has nothing yet."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._resolve(body=False)

        def do_GET(self) -> None:
            self._resolve(body=True)

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.asked.append(f"POST {self.path}")
            parts = self.path.split("?")[0].strip("/").split("/")
            if self.path == "/api/repos/create":
                made = json.loads(sent)
                name = "/".join(filter(None, [made.get("organization"), made["name"]]))
                hub.files.setdefault(name, {})
                self._answer({"url": f"{hub.address}/{name}", "name": name, "id": "1"})
            elif parts[:1] == ["api"] and parts[-1] == "validate-yaml":
                self._answer({"errors": [], "warnings": []})
            elif "preupload" in parts:
                how = {"uploadMode": "regular", "shouldIgnore": False}
                self._answer({"files": [{"path": file["path"], **how} for file in json.loads(sent)["files"]]})
            elif "commit" in parts:
                name = "/".join(parts[2:4])
                for line in map(json.loads, sent.splitlines()):
                    if line["key"] == "file":
                        hub.files[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                made = f"{hub.address}/{name}/commit/{COMMIT}"
                self._answer({"commitUrl": made, "commitOid": COMMIT, "pullRequestUrl": None})
            else:
                self.send_error(404)

        def _answer(self, value: object) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _resolve(self, body: bool) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            parts = self.path.strip("/").split("/")
            data = hub.files.get("/".join(parts[:2]), {}).get("/".join(parts[4:])) if "resolve" in parts else None
            if parts[:2] == ["api", "models"]:
                self._answer({"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": [], "private": False})
                return
            if data is None:
                self.send_response(404)
                there = "/".join(parts[:2]) in hub.files
                self.send_header("X-Error-Code", "EntryNotFound" if there else "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
