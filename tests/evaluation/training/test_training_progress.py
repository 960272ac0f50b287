"""What a training says of itself where there is no terminal."""

from __future__ import annotations

from evaluation.training.progress import TrainingProgress


def test_slow_trainings_have_a_speed_too(capsys, monkeypatch):
    now = iter([0.0, 8.0, 8.0, 8.5])
    monkeypatch.setattr("evaluation.training.progress.time.monotonic", lambda: next(now))
    with TrainingProgress(1, done=0, images_per_step=2) as progress:
        progress.advance(1, epoch="epoch 1", loss=0.5)
    assert "step 1/1  loss 0.5000  0.2 images/s  0 s left" in capsys.readouterr().err
    with TrainingProgress(1, done=0, images_per_step=64) as progress:
        progress.advance(1, epoch="epoch 1", loss=0.5)
    assert "128 images/s" in capsys.readouterr().err
