"""Studies of many finished trials, each with six parameters, five intermediate values and three attributes."""

import math
import multiprocessing
import random
from datetime import datetime

from rival import objective, quiet_optuna, sqlalchemy_url
from servers import connection

WRITERS = 8
STEPS = 5
NOTES = {"worker": "host-1:12345", "seconds": 12.5, "note": "x" * 60}


def name(size):
    return f"of-{size}"


def space():
    """That of the load, see `rival.py`."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    return {
        "batch": IntDistribution(1, 4_096, log=True),
        "threads": IntDistribution(1, 64),
        "fraction": FloatDistribution(0.0, 1.0),
        "rate": FloatDistribution(1e-5, 1.0, log=True),
        "kind": CategoricalDistribution(["a", "b", "c", "d"]),
        "mode": CategoricalDistribution(["off", "on", "auto"]),
    }


def internal(draw):
    """Internal values of a trial."""
    return {
        "batch": float(round(math.exp(draw.uniform(0.0, math.log(4_096))))),
        "threads": float(draw.randint(1, 64)),
        "fraction": draw.random(),
        "rate": 10 ** draw.uniform(-5.0, 0.0),
        "kind": float(draw.randrange(4)),
        "mode": float(draw.randrange(3)),
    }


def trial(draw):
    """A finished trial, as a client brings it."""
    optuna = quiet_optuna()
    distributions = space()
    values = internal(draw)
    params = {name: kind.to_external_repr(values[name]) for name, kind in distributions.items()}
    value = objective(params)
    return optuna.trial.create_trial(
        params=params,
        distributions=distributions,
        value=value,
        intermediate_values={step: value * (STEPS - step) for step in range(STEPS)},
        user_attrs=NOTES,
    )


def fill(system, size):
    """Creates the study of `size`, if the system has none."""
    if system.name == "Optuna":
        through_sql(system, size)
    else:
        through_server(system, size)


def through_server(system, size):
    with system.start() as server:
        storage = quiet_optuna().storages.GrpcStorageProxy(host="127.0.0.1", port=server.port)
        storage.wait_server_ready(timeout=60)
        if any(study.study_name == name(size) for study in storage.get_all_studies()):
            return
        quiet_optuna().create_study(study_name=name(size), storage=storage)
        shares = [size // WRITERS + (index < size % WRITERS) for index in range(WRITERS)]
        writers = [multiprocessing.Process(target=write, args=(server.port, size, seed, share)) for seed, share in enumerate(shares)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
            assert writer.exitcode == 0, "a writer gave up"


def write(port, size, seed, share):
    optuna = quiet_optuna()
    draw = random.Random(seed)
    storage = optuna.storages.GrpcStorageProxy(host="127.0.0.1", port=port)
    study = optuna.load_study(study_name=name(size), storage=storage)
    for _ in range(share):
        study.add_trial(trial(draw))


def through_sql(system, size):
    """Into Optuna's tables: over its server 100,000 trials take hours."""
    optuna = quiet_optuna()
    storage = optuna.storages.RDBStorage(sqlalchemy_url(system.url))
    if any(study.study_name == name(size) for study in storage.get_all_studies()):
        return
    study_id = optuna.create_study(study_name=name(size), storage=storage)._study_id
    storage.engine.dispose()
    draw = random.Random(0)
    from optuna.distributions import distribution_to_json

    texts = {name: distribution_to_json(kind) for name, kind in space().items()}
    with connection(system.url) as database, database.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(trial_id), 0) + 1 FROM trials")
        first = cursor.fetchone()[0]
        ids = range(first, first + size)
        now = datetime.utcnow().isoformat(sep=" ")
        copy = lambda into, columns, rows: cursor.copy_from(Lines(rows), into, columns=columns)
        copy(
            "trials",
            ("trial_id", "number", "study_id", "state", "datetime_start", "datetime_complete"),
            ((id, id - first, study_id, "COMPLETE", now, now) for id in ids),
        )
        params = ((id, key, value, texts[key]) for id in ids for key, value in internal(draw).items())
        copy("trial_params", ("trial_id", "param_name", "param_value", "distribution_json"), params)
        values = ((id, 0, draw.random(), "FINITE") for id in ids)
        copy("trial_values", ("trial_id", "objective", "value", "value_type"), values)
        steps = ((id, step, draw.random(), "FINITE") for id in ids for step in range(STEPS))
        columns = ("trial_id", "step", "intermediate_value", "intermediate_value_type")
        copy("trial_intermediate_values", columns, steps)
        notes = ((id, key, f'"{value}"') for id in ids for key, value in NOTES.items())
        copy("trial_user_attributes", ("trial_id", "key", "value_json"), notes)
        cursor.execute("SELECT setval(pg_get_serial_sequence('trials', 'trial_id'), %s)", (first + size - 1,))
    with connection(system.url) as database:
        database.autocommit = True
        database.cursor().execute("ANALYZE")
    database.close()


class Lines:
    """Rows as Postgres copies them in."""

    def __init__(self, rows):
        self.rows, self.rest = rows, ""

    def read(self, length):
        while len(self.rest) < length:
            row = next(self.rows, None)
            if row is None:
                break
            # Quotes within attributes need none; there is no tab, backslash or line end in what is copied.
            self.rest += "\t".join(repr(word) if isinstance(word, float) else str(word) for word in row) + "\n"
        taken, self.rest = self.rest[:length], self.rest[length:]
        return taken
