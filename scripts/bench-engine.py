#!/usr/bin/env python3
"""Compares fleetune-runner with llama-bench on the same engine.

Builds llama-bench from its published source against the headers and the very libraries that the runner was linked
with, then lets the two measure in turn: fresh processes, the same synthetic model, one thread, bound to one CPU.
Prints the ratio of the medians with a bootstrap interval, and fails when it lies outside 0.9 to 1.1.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# llama.cpp's tools are not part of the engine crate. This sdist has them, of the release before the crate's engine.
SDIST = "llama-cpp-python==0.3.36"
SDIST_FILE = "llama_cpp_python-0.3.36.tar.gz"
SDIST_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
SDIST_SOURCES = "llama_cpp_python-0.3.36/vendor/llama.cpp/tools/llama-bench/"

LOW, HIGH = 0.9, 1.1
BOOTSTRAP = 10_000
PHASES = ("prefill", "decode")


def fail(message):
    sys.exit(f"error: {message}")


def run(command, **options):
    """Runs a command and returns its stdout; what went wrong is shown in full."""
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True, check=False, **options)
    if done.returncode != 0:
        fail(f"`{' '.join(map(str, command))}` ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def engine_output(target):
    """The folder with the engine's libraries: of several builds the one that was linked last."""
    found = sorted(target.glob("release/build/llama-cpp-sys-2-*/out/lib/libllama.a"), key=lambda p: p.stat().st_mtime)
    if not found:
        fail(f"no engine under {target}; run `make setup`")
    return found[-1].parent.parent


def sources(folder):
    """llama-bench's source files, fetched once."""
    archive = folder / SDIST_FILE
    if not archive.exists():
        print(f"fetching {SDIST} for llama-bench's source (77 MB, once)", flush=True)
        run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python",
             "--dest", folder, SDIST])
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != SDIST_SHA256:
        fail(f"{archive} has SHA-256 {digest}, not {SDIST_SHA256}; remove it and run this again")
    found = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.startswith(SDIST_SOURCES) and member.name.endswith(".cpp"):
                path = folder / Path(member.name).name
                path.write_bytes(tar.extractfile(member).read())
                found.append(path)
    if not found:
        fail(f"{archive} holds no {SDIST_SOURCES}*.cpp")
    return found


def build_llama_bench(target):
    """Links llama-bench with the runner's engine; done again only when that is newer."""
    out = engine_output(target)
    folder = target / "bench-engine"
    folder.mkdir(parents=True, exist_ok=True)
    binary = folder / "llama-bench"
    if binary.exists() and binary.stat().st_mtime > (out / "lib/libllama.a").stat().st_mtime:
        return binary
    cache = (out / "build/CMakeCache.txt").read_text()
    if re.search(r"^GGML_(CUDA|VULKAN|HIP):\w+=ON$", cache, re.MULTILINE):
        fail("the comparison is made for engines of the CPU; build one with `make setup RUNNER_FEATURES=`")
    llama = Path(re.search(r"^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$", cache, re.MULTILINE)[1])
    # The engine's download code, which llama-bench refers to, was built with OpenSSL where there is one.
    openssl = re.findall(r"^OPENSSL_(?:SSL|CRYPTO)_LIBRARY:FILEPATH=(/.*)$", cache, re.MULTILINE)
    libraries = [*(out / "lib").glob("*.a"), *(out / "build/common").glob("*.a"), *(out / "build/vendor").rglob("*.a")]
    includes = [llama / part for part in ("common", "include", "ggml/include", "src", "vendor")]
    print("linking llama-bench with the runner's engine", flush=True)
    run(["c++", "-O2", "-std=c++17", *(f"-I{folder}" for folder in includes), *sources(folder), "-o", binary,
         "-Wl,--start-group", *libraries, "-Wl,--end-group", *reversed(openssl), "-lgomp", "-lpthread", "-ldl"])
    return binary


def model_file(target, size, quant):
    path = target / f"bench-engine/{size}-{quant}.gguf"
    if not path.exists():
        run(["cargo", "run", "--quiet", "-p", "fleetune-model", "--example", "synth", "--", size, quant, path], cwd=ROOT)
    return path


class Bench:
    """How both programs are started: alike."""

    def __init__(self, arguments, model):
        self.arguments = arguments
        self.model = model
        self.environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "GGML_NO_BACKTRACE": "1"}
        self.cpu = None
        if hasattr(os, "sched_getaffinity"):
            self.cpu = max(os.sched_getaffinity(0))

    def start(self, command, **options):
        bind = (lambda: os.sched_setaffinity(0, {self.cpu})) if self.cpu is not None else None
        return run(command, env=self.environment, preexec_fn=bind, **options)

    def runner(self):
        request = {
            "op": "bench",
            "model": str(self.model),
            "settings": {"n_threads": 1, "n_batch": 2048, "n_ubatch": 512},
            "workload": {"prompt": self.arguments.prompt, "gen_tokens": self.arguments.gen,
                         "repetitions": self.arguments.repetitions, "warmup": 1},
            "seed": 1,
        }
        output = self.start([self.arguments.runner], input=json.dumps(request) + "\n")
        events = [json.loads(line) for line in output.splitlines()]
        if events[-1]["event"] != "done":
            fail(f"the runner reports {events[-1]}")
        counted = [event for event in events if event["event"] == "repetition" and not event["warmup"]]
        return {phase: statistics.median(event[f"{phase}_tok_s"] for event in counted) for phase in PHASES}

    def llama_bench(self, binary):
        common = [binary, "-m", self.model, "-t", "1", "-b", "2048", "-ub", "512",
                  "-r", self.arguments.repetitions, "-o", "jsonl"]
        tests = {
            "prefill": ["-p", self.arguments.prompt, "-n", "0"],
            # Behind the prompt, as in a request; llama-bench alone would start from an empty context.
            "decode": ["-p", "0", "-n", self.arguments.gen, "-d", self.arguments.prompt],
        }
        result = {}
        for phase, test in tests.items():
            row = json.loads(self.start([*common, *test]).splitlines()[-1])
            tokens = row["n_prompt"] + row["n_gen"]
            result[phase] = statistics.median(tokens / (ns / 1e9) for ns in row["samples_ns"])
        return result


def interval(ours, theirs):
    """The 95 % interval of the ratio of the medians; whole rounds are drawn, as the two share the machine's mood."""
    generator = random.Random(1)
    rounds = range(len(ours))
    ratios = []
    for _ in range(BOOTSTRAP):
        drawn = generator.choices(rounds, k=len(ours))
        ratios.append(statistics.median(ours[i] for i in drawn) / statistics.median(theirs[i] for i in drawn))
    ratios.sort()
    return ratios[int(0.025 * BOOTSTRAP)], ratios[int(0.975 * BOOTSTRAP)]


def cpu_name():
    try:
        names = re.findall(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runner", type=Path, default=ROOT / "target/runner/release/fleetune-runner")
    parser.add_argument("--target-dir", type=Path, default=ROOT / "target/runner")
    parser.add_argument("--size", default="15m", help="tiny, 15m or 110m (default: 15m)")
    parser.add_argument("--quant", default="q4_0", help="q4_0, q8_0 or f16 (default: q4_0)")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=3, help="per process (default: 3)")
    parser.add_argument("--prompt", type=int, default=512, help="tokens (default: 512)")
    parser.add_argument("--gen", type=int, default=64, help="tokens (default: 64)")
    parser.add_argument("--build-only", action="store_true", help="build llama-bench, and measure nothing")
    arguments = parser.parse_args()

    binary = build_llama_bench(arguments.target_dir)
    if arguments.build_only:
        return
    bench = Bench(arguments, model_file(arguments.target_dir, arguments.size, arguments.quant))
    print(f"machine: {cpu_name()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}")
    print(f"engine:  {run([arguments.runner, '--version']).strip()}")
    print(f"model:   synthetic {arguments.size} {arguments.quant}, prompt {arguments.prompt}, gen {arguments.gen} behind it")
    print(f"method:  {arguments.rounds} rounds, order alternating, median of {arguments.repetitions} repetitions per "
          f"fresh process, 1 thread" + (f" on CPU {bench.cpu}" if bench.cpu is not None else ", not bound to a CPU"))
    print("load:    %.2f %.2f %.2f before" % os.getloadavg())

    samples = {"runner": {phase: [] for phase in PHASES}, "llama-bench": {phase: [] for phase in PHASES}}
    programs = {"runner": bench.runner, "llama-bench": lambda: bench.llama_bench(binary)}
    print(f"\n{'round':>5}  {'prefill tok/s':>25}  {'decode tok/s':>25}")
    print(f"{'':>5}  {'runner':>12} {'llama-bench':>12}  {'runner':>12} {'llama-bench':>12}")
    for number in range(arguments.rounds):
        order = list(programs) if number % 2 == 0 else list(reversed(programs))
        for name in order:
            for phase, speed in programs[name]().items():
                samples[name][phase].append(speed)
        print(f"{number + 1:>5}  " + "  ".join(
            " ".join(f"{samples[name][phase][-1]:>12.1f}" for name in programs) for phase in PHASES), flush=True)
    print("load:    %.2f %.2f %.2f after\n" % os.getloadavg())

    good = True
    for phase in PHASES:
        ours, theirs = samples["runner"][phase], samples["llama-bench"][phase]
        ratio = statistics.median(ours) / statistics.median(theirs)
        low, high = interval(ours, theirs)
        spread = [statistics.stdev(values) / statistics.mean(values) * 100 for values in (ours, theirs)]
        inside = LOW <= ratio <= HIGH
        good &= inside
        print(f"{phase}: runner {statistics.median(ours):.1f} (sd {spread[0]:.1f} %), llama-bench "
              f"{statistics.median(theirs):.1f} tok/s (sd {spread[1]:.1f} %); ratio {ratio:.3f}, 95 % interval "
              f"{low:.3f} to {high:.3f}{'' if inside else f', OUTSIDE {LOW} to {HIGH}'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
