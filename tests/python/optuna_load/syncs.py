"""How long a new client waits for all trials of a study."""

import multiprocessing
import time
from dataclasses import dataclass

from rival import START_DEADLINE_S, quiet_optuna


@dataclass
class Read:
    # By the first client after the server's start, which reads its database.
    first_s: float
    # By clients after that: as Optuna's objects, and the call alone.
    sync_s: list
    bare_s: list
    # Of the server, for each of the latter.
    server_s: float
    rss_mib: float
    peak_mib: float


def sync(port, study, size, bare, pipe):
    """One client, in a process of its own."""
    optuna = quiet_optuna()
    from optuna.storages._grpc.auto_generated import api_pb2

    storage = optuna.storages.GrpcStorageProxy(host="127.0.0.1", port=port)
    storage.wait_server_ready(timeout=START_DEADLINE_S)
    study_id = storage.get_study_id_from_name(study)
    start = time.monotonic()
    if bare:
        request = api_pb2.GetTrialsRequest(study_id=study_id, included_trial_ids=[], trial_id_greater_than=-1)
        count = len(storage._stub.GetTrials(request).trials)
    else:
        count = len(storage.get_all_trials(study_id, deepcopy=False))
    took = time.monotonic() - start
    assert count == size, f"{count} trials of {size}"
    pipe.send(took)


def measure(server, study, size, repetitions):
    def once(bare):
        pipe, other = multiprocessing.Pipe()
        client = multiprocessing.Process(target=sync, args=(server.port, study, size, bare, other))
        client.start()
        client.join()
        assert client.exitcode == 0, "a client gave up"
        return pipe.recv()

    first = once(bare=False)
    before = server.cpu_s()
    synced = [once(bare=False) for _ in range(repetitions)]
    called = [once(bare=True) for _ in range(repetitions)]
    used = (server.cpu_s() - before) / (2 * repetitions)
    return Read(first, synced, called, used, server.rss_mib(), server.peak_mib())
