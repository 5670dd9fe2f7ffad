"""Stands in for the daemon where only its `/status` is asked for: on a Unix socket, or on loopback with the page."""

import json
import socketserver
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class Said:
    """*document* is answered to everything, but *page* to every `/`; *asked* counts the former."""

    def __init__(self, document, page=None, status=200):
        self.document, self.page, self.asked, self.status = document, page, 0, status

    def handler(self):
        said = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))  # or closing would reset the connection
                if self.path == "/" and said.page:
                    body, headers = said.page
                else:
                    said.asked += 1
                    body, headers = json.dumps(said.document).encode(), {"Content-Type": "application/json"}
                self.send_response(said.status)
                for name, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815

            def address_string(self):
                return "client"

            def log_message(self, *_):
                pass

        return Handler


@contextmanager
def answering(said, *, unix=None, port=0):
    """Serve *said* on the socket *unix*, else on a loopback *port*; yields the port."""
    server = UnixServer(str(unix), said.handler()) if unix else ThreadingHTTPServer(("127.0.0.1", port), said.handler())
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1] if not unix else None
    finally:
        server.shutdown()
        server.server_close()
        if unix:
            unix.unlink(missing_ok=True)
        thread.join()
