"""How long quick commands take to start: `zoo list` and others, beside `python -c pass`, each in a process of its own.

    python benchmarks/zoo_start.py [--rounds 15]

A round runs each command once, one after the other, so that a drift of the machine's speed meets all of them. Wall-clock time is what a
user waits; processor time is nearly the same where nothing else runs, and means something where much else does. Exit status 1 if the
processor time of `zoo list` (median) is half a second or more, or if a command imports torch.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time

BAR = 0.5  # seconds of processor time
COMMANDS = {
    "zoo list": ["list"],
    "zoo list --json": ["list", "--json"],
    "zoo info resnet50.hcsc_200ep": ["info", "resnet50.hcsc_200ep"],
    "zoo --help": ["--help"],
}
PROGRAM = "from zoo.commands.cli import main; main()"
# The same command, and then whether torch was imported.
WITNESS = "import sys, atexit; atexit.register(lambda: sys.stderr.write(str('torch' in sys.modules))); " + PROGRAM


def seconds(arguments: list[str]) -> tuple[float, float]:
    """Wall-clock and processor time of a command."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    runs = {"python -c pass": ["-c", "pass"]} | {name: ["-c", PROGRAM, *arguments] for name, arguments in COMMANDS.items()}
    for arguments in runs.values():
        seconds(arguments)  # byte code is compiled and the files are in the system's cache
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, arguments in runs.items():
            taken[name].append(seconds(arguments))
    print("| command | median s | fastest s | processor s, median |\n|---|---|---|---|")
    processor = {}
    for name, values in taken.items():
        walls, processors = zip(*values, strict=True)
        processor[name] = statistics.median(processors)
        print(f"| `{name}` | {statistics.median(walls):.3f} | {min(walls):.3f} | {processor[name]:.3f} |")
    importing = [
        name
        for name, arguments in COMMANDS.items()
        if subprocess.run([sys.executable, "-c", WITNESS, *arguments], check=True, capture_output=True, text=True).stderr != "False"
    ]
    if importing:
        print(f"torch is imported by: {', '.join(importing)}")
    return int(bool(importing) or processor["zoo list"] >= BAR)


if __name__ == "__main__":
    sys.exit(main())
