"""``python -m evaluation`` is the ``evaluate`` command, for ``torchrun -m evaluation``."""

from evaluation.cli import main

main()
