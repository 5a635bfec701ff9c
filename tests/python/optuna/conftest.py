"""The storage of every test: Optuna's own client of a running `fleetune serve`.

FLEETUNE_ADDRESS is the server's HOST:PORT. Its studies are deleted before each test.
"""

import os

import optuna
import pytest
from optuna.storages import GrpcStorageProxy


def connect():
    host, port = os.environ["FLEETUNE_ADDRESS"].rsplit(":", 1)
    return GrpcStorageProxy(host=host, port=int(port))


@pytest.fixture
def storage():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    proxy = connect()
    proxy.wait_server_ready(timeout=60)
    for study in proxy.get_all_studies():
        proxy.delete_study(study._study_id)
    yield proxy
    proxy.remove_session()
