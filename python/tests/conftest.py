"""A coordinator of its own for each test. FLEETUNE_PROGRAM is the program `fleetune`."""

import os
import signal
import subprocess

import pytest


class Server:
    """A coordinator over a database file, which it keeps over restarts."""

    def __init__(self, folder):
        self.storage = f"sqlite://{folder / 'studies.db'}"
        self.address = "127.0.0.1:0"
        self.start()

    def start(self):
        command = [os.environ["FLEETUNE_PROGRAM"], "serve", "--storage", self.storage, "--listen", self.address]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.address = self.process.stdout.readline().removeprefix("listening on ").strip()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    yield server
    server.kill()
