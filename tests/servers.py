"""Web servers in a thread, with the faults of real ones, and one that speaks enough of S3 to be read."""

import http.server
import re
import threading
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape


class Server(http.server.ThreadingHTTPServer):
    """Files of a folder, with ranges as object stores know them.

    Attributes:
        root: the folder.
        faults: called with (server, path, times that it was asked for); returns a status, or a name of a fault below.
        asked: how often each path was asked for.
    """

    daemon_threads = True

    def __init__(self, root, faults):
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.faults, self.asked = Path(root), faults, {}

    def handle_error(self, request, client_address):
        """Clients that hang up are part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.partition("?")[0].lstrip("/")
        server = self.server
        times = server.asked[path] = server.asked.get(path, 0) + 1
        fault = server.faults(path, times)
        if isinstance(fault, int):
            self.send_response(fault)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif fault == "hang up":
            self.close_connection = True
            self.connection.close()
        elif "list-type=2" in self.path:
            self.list(path)
        else:
            self.file(server.root / path, fault)

    do_HEAD = do_GET  # noqa: N815

    def file(self, file, fault):
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not file.is_file():
            if fault == "page":
                self.answer(200, b"<!DOCTYPE html><html><body>Our start page</body></html>")
            else:
                self.answer(404, b"", {"Content-Type": "application/xml"})
            return
        content = file.read_bytes()
        if fault == "no ranges" or not wanted:
            self.answer(200, content, cut=fault == "cut")
            return
        first, last = 0, len(content)
        if wanted[1]:
            first, last = int(wanted[1]), min(int(wanted[2] or last) + 1, last)
        else:
            first = max(0, last - int(wanted[2]))
        if fault == "other range":
            first, last = first - 1, last - 1
        part = content[first:last]
        if fault == "short range":
            part = part[:-1]
        headers = {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(content)}"}
        self.answer(206, part, {} if fault == "silent range" else headers, fault == "cut")

    def answer(self, status, body, headers=(), cut=False):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = cut

    def list(self, bucket):
        prefix = re.search(r"prefix=([^&]*)", self.path)[1].replace("%2F", "/")
        root = self.server.root / bucket
        files = sorted(f for f in root.rglob("*") if f.is_file())
        names = [f.relative_to(root).as_posix() for f in files]
        entries = "".join(
            f"<Contents><Key>{escape(n)}</Key><Size>{(root / n).stat().st_size}</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for n in names
            if n.startswith(prefix)
        )
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        self.answer(200, body.encode(), {"Content-Type": "application/xml"})

    def log_message(self, *arguments):
        pass


@contextmanager
def serving(root, faults=lambda path, times: None):
    """A server of a folder, at `server.url`."""
    with Server(root, faults) as server:
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
