"""A storage for programs that outlive a restart of the server: Optuna's own client does not try again by itself."""

import functools

import grpc
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, GrpcStorageProxy


class PatientStorage(GrpcStorageProxy):
    """Waits, up to `PATIENCE_S`, for a server that is away, and makes the call again.

    Whether the server carried out a call whose answer was cut off nobody knows: a trial created in that instant may stay
    behind as RUNNING, one that is told has ended in either case.
    """

    PATIENCE_S = 120


def patient(method):
    @functools.wraps(method)
    def call(self, *arguments, **named):
        again = False
        while True:
            try:
                return method(self, *arguments, **named)
            except UpdateFinishedTrialError:
                if again and method.__name__ == "set_trial_state_values":
                    return True
                raise
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
            again = True
            self.wait_server_ready(timeout=self.PATIENCE_S)

    return call


for name in BaseStorage.__abstractmethods__:
    setattr(PatientStorage, name, patient(getattr(GrpcStorageProxy, name)))
