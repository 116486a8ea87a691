"""bjoern: bjoern_peer.py PORT."""

import sys

import bjoern

from app import application

bjoern.run(application, "127.0.0.1", int(sys.argv[1]), listen_backlog=8192)
