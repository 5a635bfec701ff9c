"""Problems of our own: kinds of parameters mixed, some of them conditional, parts of the space not feasible.

Each is a small model of something that people tune. None is taken from elsewhere, and all were written before any sampler
had been run on them. What is measured is to be minimised.
"""

import math

from space import Outcome, choice, integer, real


def _bowl(value, center, width):
    return ((value - center) / width) ** 2


def training(p):
    """Training a small network: an optimiser with options of its own; large rates diverge."""
    rate, layers, width = math.log10(p["rate"]), p["layers"], math.log2(p["width"])
    loss = 0.35 + 0.05 * _bowl(layers, 4, 2) + 0.08 * _bowl(width, 7.5 - 0.3 * layers, 2)
    if p["optimizer"] == "sgd":
        best = -1.2 - 2.0 * p["momentum"] ** 4
        limit = best + 0.8
        loss += 0.12 * _bowl(rate, best, 0.8) + 0.1 * (0.95 - p["momentum"]) + (0.0 if p["nesterov"] else 0.02)
    elif p["optimizer"] == "adam":
        best = -2.9
        limit = -1.6
        loss += 0.05 + 0.1 * _bowl(rate, best, 0.7) + 0.04 * _bowl(math.log10(1.0 - p["beta2"]), -2.6, 1.0)
    else:
        best, limit = -2.0, -0.5
        loss += 0.15 + 0.05 * _bowl(rate, best, 1.2)
    if rate > limit:
        return Outcome(fail="non_finite")
    loss += 0.03 * _bowl(math.log10(p["decay"]), -4.0 + 0.4 * (width - 6), 1.5)
    return Outcome(loss + 0.1 * abs(p["dropout"] - 0.05 * max(0.0, width - 5)))


TRAINING = [
    choice("optimizer", "sgd", "adam", "adagrad"),
    real("rate", 1e-5, 1.0, log=True),
    integer("layers", 1, 10),
    integer("width", 16, 1024, log=True),
    real("momentum", 0.0, 0.99, when=("optimizer", ("sgd",))),
    choice("nesterov", True, False, when=("optimizer", ("sgd",))),
    real("beta2", 0.9, 0.9999, when=("optimizer", ("adam",))),
    real("decay", 1e-7, 1e-1, log=True),
    real("dropout", 0.0, 0.6),
]


def tiles(p):
    """Tiles of a matrix product: what does not fit into shared memory or registers does not start."""
    m, n, k = p["tile_m"], p["tile_n"], p["tile_k"]
    threads = (m // p["per_thread"]) * (n // p["per_thread"])
    shared = (m + n) * k * 4 * p["stages"]
    registers = p["per_thread"] ** 2 + 2 * p["per_thread"] + (16 if p["vector"] == 4 else 8) + 12
    if shared > 49_152 or threads > 1024 or threads < 32:
        return Outcome(fail="invalid_config")
    if registers * threads > 65_536:
        return Outcome(fail="crash")
    resident = max(1, min(98_304 // max(shared, 1), 65_536 // (registers * threads), 2048 // threads))
    occupancy = resident * threads / 2048
    hiding = 1.0 - math.exp(-3.0 * occupancy * (1.0 + 0.4 * (p["stages"] - 1)))
    reuse = 2.0 * m * n / (m + n)
    memory = 4.0 / reuse / (0.7 if p["vector"] == 1 else 0.85 if p["vector"] == 2 else 1.0)
    conflicts = 1.0 if p["padding"] else 1.0 + 0.35 * (k in (16, 32))
    compute = (1.0 + 1.6 / p["per_thread"]) * conflicts / (0.6 + 0.4 * p["unroll"] / (p["unroll"] + 2))
    waves = 4096 * 4096 / (m * n) / (68 * resident)
    tail = math.ceil(waves) / waves
    return Outcome(tail * max(compute, 25.0 * memory) / hiding)


TILES = [
    choice("tile_m", 16, 32, 64, 128, 256),
    choice("tile_n", 16, 32, 64, 128, 256),
    choice("tile_k", 8, 16, 32, 64),
    choice("per_thread", 1, 2, 4, 8, 16),
    choice("vector", 1, 2, 4),
    integer("stages", 1, 4),
    integer("unroll", 1, 16, log=True),
    choice("padding", False, True),
]


def database(p):
    """A database server: caches and sorts share the memory, and what is too much is killed."""
    cache, sort, workers = p["cache_mib"], p["sort_mib"], p["workers"]
    used = cache + workers * sort * 1.5 + 600 + (p["pool_mib"] if p["compression"] != "off" else 0)
    if used > 16_384:
        return Outcome(fail="oom")
    ratio = {"off": 1.0, "lz4": 1.8, "zstd": 2.6}[p["compression"]]
    effort = {"off": 0.0, "lz4": 0.06, "zstd": 0.1 + 0.015 * p.get("level", 0)}[p["compression"]]
    ratio *= 1.0 + 0.03 * p.get("level", 0)
    system = (16_384 - used) * 0.7
    miss = math.exp(-(cache + 0.6 * system) * ratio / 14_000.0)
    spill = max(0.0, 1.0 - sort / 180.0) ** 2
    lanes = min(workers, 12) + 0.25 * max(0, min(workers, 24) - 12) - 0.15 * max(0, workers - 24)
    wait = {"fsync": 1.0, "group": 0.55, "direct": 0.6 + 0.5 * miss}[p["sync"]]
    if p["sync"] == "group":
        wait += 0.25 * _bowl(math.log10(p["delay_us"]), 2.7, 0.8)
    return Outcome((4.0 * miss + 1.5 * spill + effort * 4 + 0.5) * 8.0 / max(1.0, lanes) + wait)


DATABASE = [
    integer("cache_mib", 64, 16_384, log=True),
    integer("sort_mib", 1, 2_048, log=True),
    integer("workers", 1, 64),
    choice("compression", "off", "lz4", "zstd"),
    integer("level", 1, 19, when=("compression", ("zstd",))),
    integer("pool_mib", 16, 4_096, log=True, when=("compression", ("lz4", "zstd"))),
    choice("sync", "fsync", "group", "direct"),
    real("delay_us", 1.0, 100_000.0, log=True, when=("sync", ("group",))),
]


SWITCH_NAMES = [f"pass_{index}" for index in range(10)]
SWITCH_GAINS = (5.0, -3.0, 2.0, 0.5, -1.0, 4.0, 0.0, 1.5, -2.0, 0.8)
SWITCH_PAIRS = {(0, 5): -6.0, (1, 2): 5.0, (3, 8): 4.0, (4, 9): 3.0, (6, 7): -2.0, (2, 5): 1.5}


def switches(p):
    """Passes of a compiler that help or hinder each other; one pair of them makes it crash."""
    on = [p[name] for name in SWITCH_NAMES]
    if on[4] and on[7] and p["level"] == "O3":
        return Outcome(fail="crash")
    gain = sum(value for value, used in zip(SWITCH_GAINS, on) if used)
    gain += sum(value for (a, b), value in SWITCH_PAIRS.items() if on[a] and on[b])
    gain += {"O1": 0.0, "O2": 6.0, "O3": 7.0, "Os": 2.0}[p["level"]]
    gain -= 2.0 * _bowl(math.log2(p["inline"]), 7.0 - (2.0 if on[0] else 0.0), 2.0)
    return Outcome(100.0 - gain)


SWITCHES = [choice(name, False, True) for name in SWITCH_NAMES] + [
    choice("level", "O1", "O2", "O3", "Os"),
    integer("inline", 1, 1_000, log=True),
]


def nested(p):
    """A solver within a solver within a solver."""
    if p["method"] == "direct":
        return Outcome(9.0 + 2.0 * _bowl(p["block"], 48, 40))
    cost = 7.0 + 1.0 * _bowl(math.log10(p["tolerance"]), -4.0, 2.0)
    if p["preconditioner"] == "none":
        return Outcome(cost + (2.5 if p["method"] == "krylov" else 6.0))
    if p["preconditioner"] == "ilu":
        cost += -1.5 + 0.8 * _bowl(p["fill"], 3, 2) + 0.5 * _bowl(math.log10(p["drop"]), -3.0 + 0.3 * p["fill"], 1.0)
        if p["fill"] > 8 and p["drop"] < 1e-5:
            return Outcome(fail="oom")
    else:
        cost += -1.0 + 0.3 * _bowl(p["levels"], 5, 2)
        if p["smoother"] == "jacobi":
            cost += 0.6 + 1.5 * _bowl(p["omega"], 0.67, 0.2)
        else:
            cost += -1.6 + 0.6 * _bowl(p["sweeps"], 2, 1.5)
            if p["method"] == "krylov" and p["sweeps"] % 2:
                cost += 0.8
    if p["method"] == "krylov":
        cost += 0.4 * _bowl(math.log2(p["restart"]), 5.0, 1.5) - 1.0
    return Outcome(cost)


NESTED = [
    choice("method", "direct", "krylov", "fixed"),
    integer("block", 4, 256, when=("method", ("direct",))),
    real("tolerance", 1e-9, 1e-1, log=True, when=("method", ("krylov", "fixed"))),
    choice("preconditioner", "none", "ilu", "multigrid", when=("method", ("krylov", "fixed"))),
    integer("fill", 0, 12, when=("preconditioner", ("ilu",))),
    real("drop", 1e-7, 1e-1, log=True, when=("preconditioner", ("ilu",))),
    integer("levels", 2, 12, when=("preconditioner", ("multigrid",))),
    choice("smoother", "jacobi", "gauss", when=("preconditioner", ("multigrid",))),
    real("omega", 0.1, 1.5, when=("smoother", ("jacobi",))),
    integer("sweeps", 1, 8, when=("smoother", ("gauss",))),
    integer("restart", 4, 256, log=True, when=("method", ("krylov",))),
]


def valley(p):
    """A bent valley whose place a kind decides; steep walls."""
    shift = {"a": 0.0, "b": 0.7, "c": -0.6, "d": 1.2}[p["kind"]]
    level = {"a": 1.0, "b": 0.4, "c": 0.0, "d": 0.7}[p["kind"]]
    x, y, z = p["x"], p["y"], p["z"]
    wall = y - (x - shift) ** 2
    return Outcome(level + math.log1p(30.0 * wall**2 + (x - shift - 0.8) ** 2) + 0.3 * abs(z - 3) + 0.1 * (p["n"] % 4))


VALLEY = [
    real("x", -2.0, 2.0),
    real("y", -1.0, 3.0),
    integer("z", 0, 10),
    integer("n", 1, 40),
    choice("kind", "a", "b", "c", "d"),
]


def island(p):
    """Most of the space is not feasible, and the best lies at the shore."""
    x, y, z = p["x"], p["y"], p["z"] / 20.0
    inside = 0.30 - math.hypot(x - 0.68, y - 0.35) - 0.25 * abs(z - 0.6) + (0.08 if p["mode"] == "safe" else 0.0)
    if inside < 0.0:
        return Outcome(fail="infeasible" if p["mode"] == "safe" else "crash")
    speed = 2.0 * x + 1.2 * (1.0 - y) + 0.8 * z + (0.35 if p["mode"] == "fast" else 0.0)
    return Outcome(10.0 / speed + 0.2 * _bowl(p["w"], 0.4, 0.4))


ISLAND = [
    real("x", 0.0, 1.0),
    real("y", 0.0, 1.0),
    integer("z", 0, 20),
    real("w", 0.0, 1.0),
    choice("mode", "safe", "plain", "fast"),
]


def pipeline(p):
    """Stages that share cores: the slowest one counts, queues cost memory, and noise of 5 %."""
    cores = 16.0
    share = min(1.0, cores / (p["readers"] + p["decoders"] + p["writers"] * 0.5))
    read = p["readers"] ** 0.7 * (1.0 if p["io"] == "sync" else 1.5) * math.log2(p["chunk_kib"] + 1) / 8.0
    decode = p["decoders"] * share * {"zlib": 0.8, "lz4": 1.6, "zstd": 1.3}[p["codec"]]
    write = p["writers"] ** 0.8 * share * {"zlib": 3.2, "lz4": 1.6, "zstd": 2.9}[p["codec"]]
    stall = 1.0 + 1.5 / p["queue"] ** 0.6
    memory = p["queue"] * p["chunk_kib"] * (p["readers"] + p["decoders"]) / 1024.0
    if memory > 6_000.0:
        return Outcome(fail="oom")
    cache = 1.0 + 0.5 / (1.0 + math.exp(-(math.log2(p["chunk_kib"]) - 9.0) * 1.5))
    if p["io"] == "uring":
        read *= 1.2 - 0.3 * abs(math.log2(p["depth"]) - 5.0) / 5.0
    return Outcome(20.0 * stall * cache / min(read * 2.0, decode, write))


PIPELINE = [
    integer("readers", 1, 32),
    integer("decoders", 1, 32),
    integer("writers", 1, 32),
    integer("chunk_kib", 4, 16_384, log=True),
    integer("queue", 1, 256, log=True),
    choice("codec", "zlib", "lz4", "zstd"),
    choice("io", "sync", "threads", "uring"),
    integer("depth", 1, 1_024, log=True, when=("io", ("uring",))),
]


def draft(p):
    """Speculative decoding: a draft model must fit beside the large one, and guesses cost time when they are wrong."""
    layers, wide = p["gpu_layers"], p["context_kib"]
    used = 480 + 220 * layers + 60 * wide + (p["draft_layers"] * 55 + 300 if p["speculation"] == "model" else 0)
    if used > 12_000:
        return Outcome(fail="oom")
    token = 0.9 * layers + 5.2 * (48 - layers) * (1.0 + 0.02 * _bowl(p["threads"], 8, 3))
    if p["speculation"] == "off":
        return Outcome(token)
    if p["speculation"] == "lookup":
        right, cost = 0.32, 0.3
    else:
        right, cost = 0.74, 0.45 * p["draft_layers"] + 2.2 * (24 - p["draft_layers"])
    # Guesses that are not likely enough are not made.
    made = p["guesses"] * (1.0 - 0.7 * p["least"])
    right = min(0.95, right + 0.25 * p["least"])
    accepted = (1.0 - right ** (made + 1.0)) / (1.0 - right)
    batch = token * (1.0 + 0.06 * made + 0.01 * made**2)
    return Outcome((batch + made * cost) / accepted)


DRAFT = [
    integer("gpu_layers", 0, 48),
    integer("context_kib", 2, 64, log=True),
    integer("threads", 1, 24),
    choice("speculation", "off", "lookup", "model"),
    integer("guesses", 1, 24, when=("speculation", ("lookup", "model"))),
    real("least", 0.0, 1.0, when=("speculation", ("lookup", "model"))),
    integer("draft_layers", 0, 24, when=("speculation", ("model",))),
]


def thermostat(p):
    """A controller: too eager and it swings, too lazy and it is cold; plateaus, many decades."""
    gain, integral = math.log10(p["gain"]), math.log10(p["integral_s"])
    margin = 1.8 - gain - 0.4 * max(0.0, 2.0 - integral) - (0.0 if p["filter"] == "none" else 0.2)
    if margin < -0.2:
        return Outcome(fail="crash")
    swing = math.exp(-2.0 * margin)
    lag = 10.0 ** (0.5 - 0.5 * gain) + 0.3 * _bowl(integral, 2.4, 0.7)
    noise = {"none": 0.8, "mean": 0.25, "median": 0.3}[p["filter"]] / math.sqrt(p.get("window", 1))
    late = 0.03 * p.get("window", 0)
    period = math.floor(math.log2(p["period_ms"]))
    return Outcome(swing + lag + noise + late + 0.15 * abs(period - 7))


THERMOSTAT = [
    real("gain", 1e-3, 1e3, log=True),
    real("integral_s", 1.0, 1e5, log=True),
    integer("period_ms", 1, 10_000, log=True),
    choice("filter", "none", "mean", "median"),
    integer("window", 1, 51, when=("filter", ("mean", "median"))),
]

# Name: space, function, relative noise, whether some of it fails, configuration to start from.
PROBLEMS = {
    "training": (
        TRAINING,
        training,
        0.0,
        True,
        {"optimizer": "adam", "rate": 1e-3, "layers": 2, "width": 64, "beta2": 0.999, "decay": 1e-6, "dropout": 0.0},
    ),
    "tiles": (
        TILES,
        tiles,
        0.02,
        True,
        dict(tile_m=32, tile_n=32, tile_k=8, per_thread=2, vector=1, stages=1, unroll=1, padding=False),
    ),
    "database": (
        DATABASE,
        database,
        0.02,
        True,
        {"cache_mib": 128, "sort_mib": 4, "workers": 8, "compression": "off", "sync": "fsync"},
    ),
    "switches": (SWITCHES, switches, 0.0, True, None),
    "nested": (NESTED, nested, 0.0, True, None),
    "valley": (VALLEY, valley, 0.0, False, None),
    "island": (ISLAND, island, 0.0, True, None),
    "pipeline": (PIPELINE, pipeline, 0.05, True, None),
    "draft": (
        DRAFT,
        draft,
        0.03,
        True,
        {"gpu_layers": 0, "context_kib": 8, "threads": 8, "speculation": "off"},
    ),
    "thermostat": (THERMOSTAT, thermostat, 0.0, True, None),
}
