"""Server on this machine that answers as the Hub's API does for one data set, for the client `huggingface_hub`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

NAME = "owner/set"
COMMIT = "0" * 40


@contextmanager
def fake_hub(folder: Path) -> Iterator[tuple[str, list[tuple[str, int, int]]]]:
    """Serve the files of `folder` as the data set `NAME`.

    Yields:
        The address of the server, and the parts of files that it has sent, as (file, begin, end).
    """
    sent: list[tuple[str, int, int]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            kind, _, rest = path.removeprefix(f"/api/datasets/{NAME}/").partition("/")
            if kind == "tree" and (listed := folder / rest.partition("/")[2]).is_dir():
                entries = sorted(listed.iterdir())
                self.answer(200, json.dumps([self.entry(entry) for entry in entries]).encode())
            elif path.startswith(f"/api/datasets/{NAME}") and kind != "tree":
                self.answer(200, json.dumps({"id": NAME, "sha": COMMIT}).encode())
            elif path.startswith(f"/datasets/{NAME}/resolve/") and (file := folder / path.split("/", 6)[6]).is_file():
                content = file.read_bytes()
                first, _, last = (
                    self.headers.get("range", f"bytes=0-{len(content)}").removeprefix("bytes=").partition("-")
                )
                begin, end = int(first), min(int(last) + 1, len(content))
                sent.append((file.name, begin, end))
                self.answer(206, content[begin:end], **{"Content-Range": f"bytes {begin}-{end - 1}/{len(content)}"})
            else:
                self.answer(404, b"{}", **{"X-Error-Code": "EntryNotFound"})

        def do_HEAD(self) -> None:
            self.do_GET()

        def entry(self, path: Path) -> dict[str, object]:
            kind, size = ("file", path.stat().st_size) if path.is_file() else ("directory", 0)
            return {"type": kind, "oid": "1" * 40, "size": size, "path": str(path.relative_to(folder))}

        def answer(self, code: int, content: bytes, **headers: str) -> None:
            self.send_response(code)
            for name, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", sent
    finally:
        server.shutdown()
        server.server_close()
