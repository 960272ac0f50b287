"""How long quick commands take to start: `zoo list`, every command's `--help` and some mistakes, each in a process of its own.

    python benchmarks/zoo_start.py [--rounds 15]

A round runs each command once, one after the other, so that a drift of the machine's speed meets all of them. Wall-clock time is what a
user waits; processor time is nearly the same where nothing else runs, and means something where much else does. A command is compared with
`zoo list` round by round, and the median of the ratios is printed. Exit status 1 if the processor time of `zoo list` (median) is half a
second or more, if a help takes more than 1.5 times that of `zoo list` (`evaluate --help`: twice), or if a command imports torch.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from importlib import import_module
from typing import Any

import typer

BAR = 0.5  # seconds of processor time
# Times `zoo list`, by command; HELP_BAR for those that are not named.
HELP_BAR, HELP_BARS = 1.5, {"evaluate --help": 2.0}
PLACES = {"zoo": "zoo.commands.cli", "evaluate": "evaluation.commands.cli", "pretrain": "pretrain.cli", "transfer": "transfer.cli"}
BASE = "zoo list"
OTHERS = ("zoo list --json", "zoo info resnet50.hcsc_200ep")
# Answered with exit status 2, and without torch.
MISTAKES = (
    "zoo pull nothing",
    "zoo verify nothing",
    "evaluate --model tim:resnet50 --data shapes",
    "evaluate --model pixels --data shapes --task nothing",
    "pretrain nothing --out nothing",
    "transfer convert pixels --to nothing --out nothing",
)
# Then whether torch was imported.
WITNESS = "import sys, atexit; atexit.register(lambda: sys.stderr.write('torch' if 'torch' in sys.modules else '')); "


def helps() -> list[str]:
    """`COMMAND --help` of the four commands and of all that are below them."""
    found = []
    for name, module in PLACES.items():
        group: Any = typer.main.get_command(import_module(module).app)
        found.append(f"{name} --help")
        if hasattr(group, "list_commands"):
            found += [f"{name} {below} --help" for below in group.list_commands(None)]
    return found


def program(command: str) -> list[str]:
    """Arguments of Python for a command."""
    name, *words = command.split()
    return ["-c", f"import sys; sys.argv = {[name, *words]!r}; from {PLACES[name]} import main; main()"]


def seconds(arguments: list[str]) -> tuple[float, float]:
    """Wall-clock and processor time of a command."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    commands = [BASE, *OTHERS, *helps(), *MISTAKES]
    runs = {"python -c pass": ["-c", "pass"]} | {command: program(command) for command in commands}
    for arguments in runs.values():
        seconds(arguments)  # byte code is compiled and the files are in the system's cache
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, arguments in runs.items():
            taken[name].append(seconds(arguments))
    print("| command | median s | fastest s | processor s, median | times `zoo list` |\n|---|---|---|---|---|")
    processor, ratio = {}, {}
    for name, values in taken.items():
        walls, processors = zip(*values, strict=True)
        processor[name] = statistics.median(processors)
        ratio[name] = statistics.median(own / base for own, (_, base) in zip(processors, taken[BASE], strict=True))
        print(f"| `{name}` | {statistics.median(walls):.3f} | {min(walls):.3f} | {processor[name]:.3f} | {ratio[name]:.2f} |")
    slow = [name for name in commands if name.endswith("--help") and ratio[name] > HELP_BARS.get(name, HELP_BAR)]
    importing = [
        name
        for name in commands
        if subprocess.run([sys.executable, "-c", WITNESS + program(name)[1]], capture_output=True, text=True).stderr.endswith("torch")
    ]
    if slow:
        print(f"too slow: {', '.join(slow)}")
    if importing:
        print(f"torch is imported by: {', '.join(importing)}")
    return int(bool(slow) or bool(importing) or processor[BASE] >= BAR)


if __name__ == "__main__":
    sys.exit(main())
