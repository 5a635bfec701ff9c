"""Servers as processes, and the processor time that they and their Postgres use."""

import multiprocessing
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from rival import TICKS_PER_S, free_port, peak_rss_mib, serve, sqlalchemy_url


@dataclass
class Server:
    """One that runs."""

    port: int
    pid: int
    postmaster: int

    def cpu_s(self):
        """Of the server and what it started and waited for."""
        return tree_cpu_s(self.pid)

    def postgres_cpu_s(self):
        """Of all processes of the cluster."""
        return tree_cpu_s(self.postmaster)

    def rss_mib(self):
        with open(f"/proc/{self.pid}/status") as status:
            return int(next(line for line in status if line.startswith("VmRSS:")).split()[1]) / 1024

    def peak_mib(self):
        return peak_rss_mib(self.pid)


@dataclass
class Fleetune:
    """`fleetune serve`."""

    program: str
    url: str
    name = "fleetune"

    @contextmanager
    def start(self):
        command = [self.program, "serve", "--storage", self.url, "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            line = process.stdout.readline()
            assert line.startswith("listening on "), f"fleetune did not start: {line!r}"
            yield Server(int(line.rsplit(":", 1)[1]), process.pid, postmaster(self.url))
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()


@dataclass
class Optuna:
    """Optuna's own, with the cache that its documentation asks for."""

    url: str
    name = "Optuna"

    @contextmanager
    def start(self):
        port = free_port()
        process = multiprocessing.Process(target=serve, args=(sqlalchemy_url(self.url), port), daemon=True)
        process.start()
        try:
            yield Server(port, process.pid, postmaster(self.url))
        finally:
            process.terminate()
            process.join()


def connection(url):
    """To the database itself."""
    return psycopg2.connect("postgresql" + url.removeprefix("postgres"))


def postmaster(url):
    """The parent of every process of the cluster."""
    with connection(url) as database, database.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [backend] = cursor.fetchone()
        found = int(stat(backend)[1])
    database.close()
    return found


def stat(pid):
    """The fields of /proc/PID/stat after the name; the first is the state."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def tree_cpu_s(pid):
    """Of a process, its children that run, and those that it waited for."""
    ticks = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = stat(entry.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(entry.name) == pid:
            ticks += sum(int(field) for field in fields[11:15])
        elif int(fields[1]) == pid:
            ticks += sum(int(field) for field in fields[11:13])
    return ticks / TICKS_PER_S
