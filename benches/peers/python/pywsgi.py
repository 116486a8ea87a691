"""gevent's own WSGI server: pywsgi.py PORT."""

import socket
import sys

from gevent.pywsgi import WSGIServer

from app import application


class Server(WSGIServer):
    def handle(self, sock, address):
        # without it each answer waits for the client's delayed acknowledgement of its head
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().handle(sock, address)


Server(("127.0.0.1", int(sys.argv[1])), application, log=None, backlog=8192).serve_forever()
