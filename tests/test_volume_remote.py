"""Volumes behind a URL, from a web server that answers ranges as object stores do."""

import functools
import http.server
import re
import threading
from pathlib import Path

import pytest
from runs import ROOT

from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.volumes.volume import Volume


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Python's own file server does not know ranges, which shards are read by."""

    def do_GET(self):
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        try:
            content = Path(self.translate_path(self.path)).read_bytes()
        except OSError:
            self.send_error(404)
            return
        first, last = 0, len(content)
        if wanted and wanted[1]:
            first, last = int(wanted[1]), min(int(wanted[2] or last) + 1, last)
        elif wanted:
            first = max(0, last - int(wanted[2]))
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Range", f"bytes {first}-{last - 1}/{len(content)}")
        self.send_header("Content-Length", str(last - first))
        self.end_headers()
        self.wfile.write(content[first:last])

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address():
    handler = functools.partial(Ranges, directory=str(ROOT / "demo"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_url_gives_the_voxels_of_the_folder(address):
    box = Box((1, 20, 30), (9, 100, 90))
    near, far = (
        Volume.open(ROOT / "demo/measured.ome.zarr"),
        Volume.open(f"{address}/measured.ome.zarr"),
    )
    assert (far.shape, far.voxel) == (near.shape, near.voxel)
    assert (far.read(box) == near.read(box)).all()


def test_a_url_where_nothing_is_is_named(address):
    with pytest.raises(EmgenError, match=r"nothing\.ome\.zarr cannot be opened"):
        Volume.open(f"{address}/nothing.ome.zarr")
