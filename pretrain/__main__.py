"""``python -m pretrain`` (what ``torchrun -m pretrain`` starts)."""

from pretrain.cli import main

main()
