"""Problems like those that fleetune is made for: settings of llama.cpp on machines with too little memory.

A model of its own, from what limits an engine: bytes that a token moves, arithmetic that a prompt needs, launches,
copies between the halves, threads that wait for each other, memory that ends. It shares no formula and no constant with
fleetune's estimates, which are to be tested by it: efficiencies, overheads and limits differ, and effects are in here
that the estimates know nothing of (efficiency cores, drivers that spill, kernels that prefer some sizes, cards whose
fused attention is slow, memory that other programs hold).
"""

import math
from dataclasses import dataclass

from space import Outcome, choice, integer

GIB = 1024.0
KV_BYTES = {"f16": 2.0, "q8_0": 1.0625, "q4_0": 0.5625}


@dataclass(frozen=True)
class Card:
    """A GPU: memory in MiB, bandwidth in GB/s, matrix arithmetic in Tflop/s; `fused`: speed of fused attention."""

    name: str
    vram: int
    bandwidth: float
    tflops: float
    fused: float = 1.0
    # Held by other programs, MiB.
    taken: int = 300


@dataclass(frozen=True)
class Host:
    """A machine: its cards, and its cores (fast ones, slow ones), bandwidth in GB/s, memory in MiB."""

    name: str
    cards: tuple
    cores: int
    slow_cores: int
    bandwidth: float
    gflops_core: float
    ram: int
    pcie: float = 20.0
    # Memory of a card that is used up is taken from the host, slowly, instead of a failure.
    spills: bool = False

    @property
    def logical(self):
        return 2 * self.cores + self.slow_cores


@dataclass(frozen=True)
class Net:
    """A model: layers, MiB of each layer and of the output, widths, parameters per layer that a token uses, millions."""

    name: str
    layers: int
    layer_mib: float
    output_mib: float
    input_mib: float
    width: int
    heads: int
    kv_width: int
    feed: int
    vocab: int
    active: float = 1.0

    @property
    def file_mib(self):
        return self.layers * self.layer_mib + self.output_mib + self.input_mib


@dataclass(frozen=True)
class Case:
    """One problem: what is measured on which machine with which workload (tokens)."""

    net: Net
    host: Host
    objective: str
    prompt: int
    gen: int
    context: int
    bits: float


def place(case, p):
    """Layers of each card and of the host; the output counts as the last layer and goes to a card first."""
    net, host = case.net, case.host
    on_cards = min(p["n_gpu_layers"], net.layers + 1)
    first = net.layers + 1 - on_cards
    mode = p.get("split_mode", "layer")
    if not host.cards or on_cards == 0:
        return [], net.layers, False
    cards = list(host.cards)
    if len(cards) > 1 and mode == "none":
        cards = [cards[p.get("main_gpu", 0)]]
    total = sum(card.vram - card.taken for card in cards)
    shares, begin, seen = [], 0, 0
    for card in cards:
        seen += card.vram - card.taken
        end = round(on_cards * seen / total)
        shares.append((card, end - begin))
        begin = end
    layers = [[card, count, False] for card, count in shares]
    # The last one has the output.
    layers[-1][1] -= 1
    layers[-1][2] = True
    return layers, first if first <= net.layers else net.layers, mode == "row" and len(cards) > 1


def memory(case, p, layers, host_layers, rows):
    """MiB on each card beyond what it has (negative: left), and on the host."""
    net, host = case.net, case.host
    ubatch = min(p["n_ubatch"], p["n_batch"])
    fused = p["flash_attn"] != "off"
    kv_layer = case.context * net.kv_width * (KV_BYTES[p["type_k"]] + KV_BYTES[p["type_v"]]) / 2**20
    on_host_kv = not p["offload_kqv"]
    work = ubatch * (net.feed * net.active * 6.0 + net.width * 30.0) / 2**20
    scores = 0.0 if fused else ubatch * case.context * net.heads * 4.3 / 2**20
    mask = case.context * ubatch * (2.2 if fused else 4.5) / 2**20
    logits = ubatch * net.vocab * 4.0 / 2**20
    over = []
    whole = sum(count for _, count, _ in layers)
    for index, (card, count, output) in enumerate(layers):
        weights = count * net.layer_mib + (net.output_mib if output else 0.0)
        if rows:
            weights = (whole * net.layer_mib + net.output_mib) * (card.vram / sum(c.vram for c, _, _ in layers))
        cache = 0.0 if on_host_kv else kv_layer * ((whole if index == 0 else 0) if rows else count)
        buffers = work + (0.0 if on_host_kv else scores) + mask + (logits if output else 0.0)
        if host_layers and p["op_offload"] and index == 0:
            buffers += net.layer_mib * 0.45
        need = weights + cache + buffers * 1.08 + 390.0
        over.append(need - (card.vram - card.taken))
    cache = kv_layer * (net.layers if on_host_kv else host_layers)
    ram = host_layers * net.layer_mib + net.input_mib + cache + work + (scores if host_layers or on_host_kv else 0.0)
    if p.get("repack", True) and host_layers and p.get("load_mode", "auto") != "none":
        # A second copy, since the first one is the file itself.
        ram += host_layers * net.layer_mib * 0.55
    return over, ram + 2_500.0 - host.ram


def crowd(host, threads):
    """Cores' worth of `threads` threads, and how much longer they wait for each other."""
    fast = min(threads, host.cores)
    slow = min(max(0, threads - host.cores), host.slow_cores)
    twins = max(0, threads - host.cores - host.slow_cores)
    # Work is shared evenly: with one slow core in the team, all wait for it.
    power = fast if not slow else (fast + slow) * 0.58
    power = max(power, fast * 0.75) + 0.08 * min(twins, host.cores)
    wait = 1.0 + 0.012 * threads + (0.9 if threads >= host.logical else 0.0)
    return power, wait


def host_seconds(case, p, tokens, mib, threads, batch):
    """Seconds in which the host computes `mib` of weights for `tokens` tokens in pieces of `batch`."""
    host = case.host
    power, wait = crowd(host, threads)
    read = mib * 1.048e-3 / (host.bandwidth * 0.86 * (1.0 - math.exp(-2.6 * power / (0.55 * host.cores + 1.2))))
    flops = 2.0 * mib * 2**20 * 8.0 / case.bits * tokens
    packed = 1.7 if p.get("repack", True) else 1.0
    rate = host.gflops_core * power * 1e9 * packed * min(1.0, 0.35 + batch / 200.0)
    pieces = math.ceil(tokens / batch)
    return max(read * pieces, flops / rate) * wait


def attention_seconds(case, p, tokens, layers, bandwidth, tflops, quality):
    """Seconds of attention over a context that is half full on average."""
    net = case.net
    seen = case.prompt if tokens == 1 else case.prompt / 2.0
    entry = net.kv_width * (KV_BYTES[p["type_k"]] + KV_BYTES[p["type_v"]])
    mixed = 1.9 if p["type_k"] != p["type_v"] else 1.0
    packed = 1.25 if p["type_k"] != "f16" and tokens > 1 else 1.0
    read = layers * seen * entry * 1e-9 / bandwidth * (1.0 if tokens == 1 else tokens / 64.0)
    flops = layers * 4.0 * net.heads * (net.width / net.heads) * seen * tokens / (tflops * 1e12 * 0.3)
    return max(read, flops) * mixed * packed / quality


def card_seconds(case, p, tokens, entry, batch, rows):
    """Seconds of one card for its layers."""
    net = case.net
    card, count, output = entry
    mib = count * net.layer_mib * (net.active if tokens == 1 else min(1.0, net.active * (1 + batch / 8.0)))
    mib += net.output_mib if output else 0.0
    read = mib * 1.048e-3 / (card.bandwidth * 0.72)
    if tokens == 1:
        work = read
    else:
        flops = 2.0 * (count * net.layer_mib * net.active) * 2**20 * 8.0 / case.bits * tokens
        # Kernels work on tiles; on a prompt that is cut short the last piece is mostly empty.
        full = batch / (batch + 190.0) * (1.06 if batch in (512, 1024) else 1.0)
        full *= tokens / (math.ceil(tokens / batch) * batch) if tokens > batch else 1.0
        work = max(flops / (card.tflops * 1e12 * 0.55 * full), read * math.ceil(tokens / batch))
    fused = p["flash_attn"] != "off"
    quality = card.fused if fused else (0.55 if tokens > 1 else 0.72)
    attention = attention_seconds(case, p, tokens, count, card.bandwidth * 0.6, card.tflops, quality)
    launches = count * (11e-6 if fused else 17e-6) * 6.0 * max(1, math.ceil(tokens / batch))
    exchange = count * 38e-6 * (1.0 if tokens == 1 else 0.4 * tokens / batch) if rows else 0.0
    return work, attention, launches + exchange


def phase(case, p, tokens, layers, host_layers, rows, over):
    """Seconds of one pass over `tokens` tokens: a token of decode, or the whole prompt."""
    net, host = case.net, case.host
    batch = 1 if tokens == 1 else min(p["n_ubatch"], p["n_batch"], tokens)
    threads = p.get("n_threads", host.cores) if tokens == 1 else p.get("n_threads_batch", host.cores)
    pieces = math.ceil(tokens / batch)
    seconds, cards = 0.0, []
    for entry, above in zip(layers, over):
        work, attention, rest = card_seconds(case, p, tokens, entry, batch, rows)
        if not p["offload_kqv"]:
            attention = attention_seconds(case, p, tokens, entry[1], host.bandwidth * 0.5, 0.6, 1.0)
            attention += entry[1] * 30e-6 * pieces + entry[1] * tokens * net.width * 8e-9 / host.pcie
        slow = 1.0
        if above > 0.0:
            slow = 1.0 + 9.0 * min(1.0, above / 1500.0)
        cards.append((work * slow, attention * slow, rest))
    if rows:
        # All compute at once and wait for the slowest; attention stays on the first.
        seconds += max(work for work, _, _ in cards) * 1.12 + sum(a for _, a, _ in cards) + sum(r for _, _, r in cards)
    else:
        seconds += sum(sum(parts) for parts in cards)
        if tokens > 1 and len(cards) > 1:
            # Pieces overlap in the pipeline when there are enough of them in a batch.
            lanes = min(len(cards), max(1.0, min(p["n_batch"], tokens) / batch))
            seconds /= 1.0 + 0.75 * (lanes - 1.0)
        seconds += 60e-6 * max(0, len(cards) - 1) * pieces
    if host_layers or not layers:
        mib = host_layers * net.layer_mib
        moved = mib * (net.active if tokens == 1 else min(1.0, net.active * (1 + batch / 8.0)))
        moved += net.output_mib if not layers else 0.0
        own = host_seconds(case, p, tokens, moved, threads, batch)
        if layers and p["op_offload"] and tokens > 1 and batch >= 32:
            # Weights travel to the card for each piece.
            card = layers[0][0]
            copy = mib * 1.048e-3 / (host.pcie * 0.82) * pieces
            flops = 2.0 * mib * net.active * 2**20 * 8.0 / case.bits * tokens / (card.tflops * 1e12 * 0.45)
            own = max(copy, flops) + 0.25 * min(copy, flops)
        slow_attention = 1.15 if p["flash_attn"] != "off" else 1.0
        own += attention_seconds(case, p, tokens, host_layers, host.bandwidth * 0.5, 0.6, 1.0) * slow_attention
        seconds += own + (90e-6 * pieces if layers else 0.0)
    return seconds + 150e-6 * pieces


def measure(case, p, luck=0.0):
    """The outcome in the objective's unit; `luck`: how much less memory there is this time, MiB."""
    net, host = case.net, case.host
    if p["type_v"] != "f16" and p["flash_attn"] == "off":
        return Outcome(fail="invalid_config")
    layers, host_layers, rows = place(case, p)
    if rows and (not p["offload_kqv"] or p["type_k"] == "q4_0"):
        return Outcome(fail="crash")
    over, ram = memory(case, p, layers, host_layers, rows)
    over = [above + luck for above in over]
    if any(above > (2_500.0 if host.spills else 0.0) for above in over):
        return Outcome(fail="oom")
    disk = 1.0
    if ram + luck > 0.0:
        if p.get("load_mode", "auto") == "none" or ram > host_layers * net.layer_mib * 0.6:
            return Outcome(fail="oom")
        # The file is read again and again.
        disk = 1.0 + 12.0 * min(1.0, ram / 4_000.0)
    decode = phase(case, p, 1, layers, host_layers, rows, over) * disk
    prefill = phase(case, p, case.prompt, layers, host_layers, rows, over) * disk
    if p.get("load_mode", "auto") == "none" and host_layers:
        decode, prefill = decode * 0.985, prefill * 0.97
    if prefill + decode * case.gen > 900.0:
        return Outcome(fail="timeout")
    if case.objective == "decode":
        return Outcome(1.0 / decode)
    if case.objective == "prefill":
        return Outcome(case.prompt / prefill)
    return Outcome(prefill * 1e3 if case.objective == "ttft" else prefill + decode * case.gen)


def space(case):
    """What fleetune searches on such a machine, with the types of the KV cache."""
    host, net = case.host, case.net
    params = [
        choice("n_batch", 128, 256, 512, 1024, 2048, 4096),
        choice("n_ubatch", 64, 128, 256, 512, 1024, 2048, 4096),
        choice("flash_attn", "auto", "off"),
        choice("type_k", "f16", "q8_0", "q4_0"),
        choice("type_v", "f16", "q8_0", "q4_0"),
        integer("n_threads", 1, host.logical),
        integer("n_threads_batch", 1, host.logical),
        choice("load_mode", "auto", "none"),
        choice("repack", True, False),
    ]
    if host.cards:
        params += [
            integer("n_gpu_layers", 0, net.layers + 1),
            choice("offload_kqv", True, False),
            choice("op_offload", True, False),
        ]
    if len(host.cards) > 1:
        params.append(choice("split_mode", "layer", "row", "none"))
        params.append(integer("main_gpu", 0, len(host.cards) - 1, when=("split_mode", ("none",))))
    return params


def default(case):
    """llama.cpp's defaults; all layers on the cards if they fit, else none of them."""
    host = case.host
    params = {
        "n_batch": 2048,
        "n_ubatch": 512,
        "flash_attn": "auto",
        "type_k": "f16",
        "type_v": "f16",
        "n_threads": host.cores + host.slow_cores,
        "n_threads_batch": host.cores + host.slow_cores,
        "load_mode": "auto",
        "repack": True,
    }
    if host.cards:
        params |= {"n_gpu_layers": case.net.layers + 1, "offload_kqv": True, "op_offload": True}
    if len(host.cards) > 1:
        params["split_mode"] = "layer"
    if host.cards and measure(case, settings(case, params)).fail:
        params["n_gpu_layers"] = 0
    return params


def settings(case, params):
    """`params` with what a machine without cards does not have."""
    return params if case.host.cards else params | {"n_gpu_layers": 0, "offload_kqv": True, "op_offload": True}


R3060 = Card("NVIDIA GeForce RTX 3060", 12_288, 360.0, 26.0)
R3080 = Card("NVIDIA GeForce RTX 3080", 10_240, 760.0, 59.0, taken=700)
R3090 = Card("NVIDIA GeForce RTX 3090", 24_576, 936.0, 70.0)
R4060 = Card("NVIDIA GeForce RTX 4060 Laptop GPU", 8_188, 230.0, 28.0, taken=600)
R4090 = Card("NVIDIA GeForce RTX 4090", 24_564, 1008.0, 160.0, taken=900)
P40 = Card("Tesla P40", 24_576, 346.0, 10.5, fused=0.45)

SMALL = Host("Ryzen 5 5600X", (R3060,), 6, 0, 46.0, 38.0, 32 * 1024)
LARGE = Host("Ryzen 9 7950X", (R4090,), 16, 0, 66.0, 70.0, 96 * 1024, pcie=25.0)
PAIR = Host("AMD EPYC 7302", (R3090, R3090), 16, 0, 130.0, 30.0, 128 * 1024)
LAPTOP = Host("Core i7-13700H", (R4060,), 6, 8, 60.0, 45.0, 32 * 1024, pcie=12.0, spills=True)
HYBRID = Host("Core i9-13900K", (), 8, 16, 72.0, 62.0, 64 * 1024)
GAMING = Host("Core i5-12600K", (R3080,), 6, 4, 68.0, 55.0, 48 * 1024)
UNEVEN = Host("Ryzen 7 3700X", (R3090, R3060), 8, 0, 44.0, 36.0, 64 * 1024, pcie=11.0)
SERVER = Host("Xeon E5-2690 v4", (P40,), 14, 0, 62.0, 22.0, 96 * 1024, pcie=11.0)

N3 = Net("3b-q8_0", 28, 106.0, 400.0, 400.0, 3072, 24, 1024, 8192, 128_256)
N8 = Net("8b-q4_k", 32, 128.0, 411.0, 282.0, 4096, 32, 1024, 14_336, 128_256)
N14 = Net("14b-q5_k", 48, 196.0, 610.0, 510.0, 5120, 40, 1024, 13_824, 152_064)
N32 = Net("32b-q4_k", 64, 276.0, 610.0, 418.0, 5120, 40, 1024, 27_648, 152_064)
N70 = Net("70b-q4_k", 80, 496.0, 822.0, 563.0, 8192, 64, 1024, 28_672, 128_256)
MOE = Net("8x7b-q4_0", 32, 795.0, 103.0, 70.0, 4096, 32, 1024, 14_336, 32_000, active=0.28)
N34 = Net("34b-q4_k", 60, 320.0, 360.0, 252.0, 7168, 56, 1024, 20_480, 64_000)

CASES = {
    "8b-3060-long": Case(N8, SMALL, "decode", 12_000, 256, 65_536, 4.8),
    "70b-4090": Case(N70, LARGE, "decode", 1_024, 128, 16_384, 4.8),
    "32b-pair": Case(N32, PAIR, "balanced", 4_096, 512, 131_072, 4.8),
    "14b-laptop": Case(N14, LAPTOP, "prefill", 2_048, 64, 16_384, 5.6),
    "8b-cpu": Case(N8, HYBRID, "balanced", 512, 256, 8_192, 4.8),
    "moe-3080": Case(MOE, GAMING, "balanced", 1_024, 256, 16_384, 4.5),
    "34b-uneven": Case(N34, UNEVEN, "prefill", 4_096, 64, 65_536, 4.8),
    "3b-p40": Case(N3, SERVER, "ttft", 6_000, 64, 32_768, 8.5),
}
# Relative standard deviation between processes, and of the memory that is free, MiB.
NOISE = 0.03
FREE_MIB = 40.0


def functions(case):
    """What a search sees, and the truth."""

    def seen(params, rng):
        # Drawn whatever comes of it, so that the stream does not depend on the outcome.
        luck, factor = rng.normal(0.0, FREE_MIB), math.exp(rng.normal(0.0, NOISE))
        outcome = measure(case, settings(case, params), luck)
        return Outcome(outcome.value * factor) if outcome.fail is None else outcome

    def truth(params):
        return measure(case, settings(case, params)).value

    return seen, truth


def is_maximized(case):
    return case.objective in ("decode", "prefill")
