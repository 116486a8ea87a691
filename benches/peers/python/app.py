"""The application that all WSGI peers serve. PEER_SLEEP names the module with the right sleep (time, gevent)."""

import importlib
import os

SLEEP = importlib.import_module(os.environ.get("PEER_SLEEP", "time")).sleep
FILE = os.environ.get("PEER_FILE", "")
FIXED = b"x" * 100 * 1024


def number(environ, name):
    for pair in environ["QUERY_STRING"].split("&"):
        key, _, value = pair.partition("=")
        if key == name:
            return int(value)
    return 1


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/plaintext":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
        return [b"Hello, World!"]
    if path == "/sleep":
        SLEEP(number(environ, "ms") / 1000)
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
        return [b"Hello, World!"]
    if path == "/fixed":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "102400")])
        return [FIXED]
    if path in ("/stream", "/stream-flushed"):  # a WSGI server may not hold back a piece: each is flushed
        n, size = number(environ, "n"), number(environ, "size")
        start_response("200 OK", [("Content-Type", "text/plain")])
        piece = b"x" * size
        return (piece for _ in range(n))
    if path == "/file":
        file = open(FILE, "rb")
        length = os.fstat(file.fileno()).st_size
        start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(length))])
        wrapper = environ.get("wsgi.file_wrapper")
        return wrapper(file, 65536) if wrapper else iter(lambda: file.read(65536), b"")
    start_response("404 Not Found", [("Content-Length", "0")])
    return [b""]
