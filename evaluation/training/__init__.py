"""The parts that every training shares: devices, optimizers and schedules, atomic checkpoints, the log, stopping, progress."""
