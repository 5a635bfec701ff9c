"""A server that is killed and started again under the programs that use it.

FLEETUNE_PROGRAM is the program `fleetune`, FLEETUNE_STORAGE where it keeps studies. Run as a program itself, this file
is one of those that use it: test_restart.py ADDRESS KIND LOG.
"""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime

import grpc
import optuna
from optuna.storages import GrpcStorageProxy
from optuna.trial import TrialState

from patient import PatientStorage

# Longer than any of it takes on a busy machine.
DEADLINE_S = 300
# Of each program.
TRIALS = 25
STEPS = 20
# The server is killed when so many trials were acknowledged, all programs together.
KILLS = [20, 70, 120]
# Half of the programs have Optuna's own storage and start `optimize` again, half have one that tries again.
KINDS = ["plain", "patient"] * 4


def objective(trial):
    trial.set_user_attr("program", os.getpid())
    x = trial.suggest_float("x", -5.0, 5.0)
    for step in range(STEPS):
        trial.report(x * step, step)
    return x**2 + trial.suggest_int("n", 1, 64)


def is_cut_off(error):
    """Whether an absent server is what ended `optimize`, which hides that behind errors of its own when it cannot tell."""
    codes = set()
    while error is not None:
        if isinstance(error, grpc.RpcError):
            codes.add(error.code())
        error = error.__context__
    return codes == {grpc.StatusCode.UNAVAILABLE}


def work(address, kind, path):
    """Ends `TRIALS` trials, and notes down each that was acknowledged."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    host, port = address.rsplit(":", 1)
    make = PatientStorage if kind == "patient" else GrpcStorageProxy
    storage = make(host=host, port=int(port))
    acknowledged = 0
    with open(path, "w", buffering=1) as log:

        def note(_, trial):
            nonlocal acknowledged
            acknowledged += 1
            log.write(json.dumps([trial.number, trial.value]) + "\n")

        while acknowledged < TRIALS:
            try:
                study = optuna.load_study(study_name="kept", storage=storage)
                study.optimize(objective, n_trials=TRIALS - acknowledged, callbacks=[note])
            except Exception as error:
                if kind == "patient" or not is_cut_off(error):
                    raise
                storage.wait_server_ready(timeout=DEADLINE_S)


class Server:
    """`fleetune serve`, at the same address each time."""

    def __init__(self):
        self.address = "127.0.0.1:0"
        self.start()

    def start(self):
        command = [os.environ["FLEETUNE_PROGRAM"], "serve", "--storage", os.environ["FLEETUNE_STORAGE"]]
        command += ["--listen", self.address]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.address = self.process.stdout.readline().removeprefix("listening on ").strip()
        assert self.address, "the server did not start"

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


def notes(logs):
    """What was acknowledged so far: (number, value) of each whole line."""
    lines = [line for log in logs if log.exists() for line in log.read_text().splitlines(keepends=True)]
    return [tuple(json.loads(line)) for line in lines if line.endswith("\n")]


def until(what, condition):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.01)


def test_a_killed_server_loses_nothing(tmp_path):
    server = Server()
    host, port = server.address.rsplit(":", 1)
    storage = GrpcStorageProxy(host=host, port=int(port))
    optuna.create_study(study_name="kept", storage=storage, sampler=optuna.samplers.RandomSampler())

    logs = [tmp_path / f"{index}.log" for index in range(len(KINDS))]
    programs = [
        subprocess.Popen([sys.executable, "-W", "ignore", __file__, server.address, kind, log])
        for kind, log in zip(KINDS, logs)
    ]
    killed = []
    for count in KILLS:
        until(f"{count} trials", lambda: len(notes(logs)) >= count)
        killed.append(datetime.now())
        server.kill()
        server.start()
    assert [program.wait(timeout=DEADLINE_S) for program in programs] == [0] * len(programs)

    storage.wait_server_ready(timeout=DEADLINE_S)
    trials = optuna.load_study(study_name="kept", storage=storage).trials
    server.kill()
    assert [trial.number for trial in trials] == list(range(len(trials)))
    acknowledged = notes(logs)
    assert len(acknowledged) == len(set(acknowledged)) == TRIALS * len(programs)
    for number, value in acknowledged:
        assert (trials[number].state, trials[number].value) == (TrialState.COMPLETE, value)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    for trial in complete:
        x, n = trial.params["x"], trial.params["n"]
        assert trial.value == x**2 + n
        assert trial.intermediate_values == {step: x * step for step in range(STEPS)}
    # What a kill may leave behind: a trial of each program that was not told, or whose answer was cut off.
    assert len(trials) - len(acknowledged) <= len(KILLS) * len(programs)

    by_program = lambda pid: [trial for trial in complete if trial.user_attrs["program"] == pid]
    patient = [by_program(program.pid) for program, kind in zip(programs, KINDS) if kind == "patient"]
    assert [len(own) for own in patient] == [TRIALS] * len(patient)
    # Trials that ran while the server was away went on, and ended.
    spans = [(trial.datetime_start, trial.datetime_complete) for own in patient for trial in own]
    assert any(start < at < complete for start, complete in spans for at in killed)


if __name__ == "__main__":
    work(*sys.argv[1:])
