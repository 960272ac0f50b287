"""``python -m evaluation`` is the ``evaluate`` command, for ``torchrun -m evaluation``."""

from evaluation.commands.cli import main

main()
