"""How long quick commands take to start: `zoo list` and others, beside `python -c pass`, each in a process of its own.

    python benchmarks/zoo_start.py [--rounds 15]

A round runs each command once, one after the other, so that a drift of the machine's speed meets all of them. Exit status 1 if the median
of `zoo list` is half a second or more, or if a command imports torch.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

BAR = 0.5  # seconds
COMMANDS = {
    "zoo list": ["list"],
    "zoo list --json": ["list", "--json"],
    "zoo info resnet50.hcsc_200ep": ["info", "resnet50.hcsc_200ep"],
    "zoo --help": ["--help"],
}
PROGRAM = "from zoo.cli import main; main()"
# The same command, and then whether torch was imported.
WITNESS = "import sys, atexit; atexit.register(lambda: sys.stderr.write(str('torch' in sys.modules))); from zoo.cli import main; main()"


def seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    runs = {"python -c pass": ["-c", "pass"]} | {name: ["-c", PROGRAM, *arguments] for name, arguments in COMMANDS.items()}
    for arguments in runs.values():
        seconds(arguments)  # byte code is compiled and the files are in the system's cache
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, arguments in runs.items():
            taken[name].append(seconds(arguments))
    print("| command | median s | slowest s | above `python -c pass` |\n|---|---|---|---|")
    for name, values in taken.items():
        above = statistics.median(value - bare for value, bare in zip(values, taken["python -c pass"], strict=True))
        print(f"| `{name}` | {statistics.median(values):.3f} | {max(values):.3f} | {above:+.3f} |")
    importing = [
        name
        for name, arguments in COMMANDS.items()
        if subprocess.run([sys.executable, "-c", WITNESS, *arguments], check=True, capture_output=True, text=True).stderr != "False"
    ]
    if importing:
        print(f"torch is imported by: {', '.join(importing)}")
    return int(bool(importing) or statistics.median(taken["zoo list"]) >= BAR)


if __name__ == "__main__":
    sys.exit(main())
