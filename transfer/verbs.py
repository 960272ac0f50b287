"""Detection in Python, by the words of the commands: ``transfer.detect("small_r18_fpn", "models/moco", "voc:cells", out="runs/cells")``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.presence import require_detectron2

if TYPE_CHECKING:
    from transfer.detection.detect import Detection
    from transfer.detection.predict import Predicted
    from zoo.results import Result


def detect(
    config: str | Path,
    model: str | Path,
    data: str,
    *,
    out: str | Path,
    keys: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Detection:
    """Fine-tune a backbone for detection and evaluate it, as ``transfer detect`` does.

    Parameters
    ----------
    config, model, data
        As the command takes them.
    out
        The run folder.
    keys
        detectron2's keys with their values: ``{"SOLVER.MAX_ITER": 2000}``.
    settings
        As :func:`transfer.detection.detect.start` takes them: ``seed``, ``device``, ``gpus``, ``strict``, ``overwrite``, ``go_on``,
        ``max_seconds``.

    Returns
    -------
    The result, or why the run stopped before its end.

    Raises
    ------
    UserError
        detectron2 is not installed; whatever the command would say.
    """
    require_detectron2()
    from transfer.detection.detect import start

    words = [word for key, value in (keys or {}).items() for word in (key, str(value))]
    return start(str(config), str(model), data, Path(out), words, **settings)


def evaluate(run: str | Path, data: str, **settings: Any) -> Result:
    """Evaluate a checkpoint of a detection run, as ``transfer evaluate`` does.

    ``settings``: ``checkpoint``, ``part``, ``device``, ``strict``, ``out``. Raises UserError as :func:`detect` does.
    """
    require_detectron2()
    from transfer.detection.evaluate import evaluate as evaluate_run

    return evaluate_run(Path(run), data, **settings)[0]


def predict(run: str | Path, images: Sequence[str | Path] = (), *, out: str | Path, **settings: Any) -> Predicted:
    """Detect in images, and write what is found into the folder ``out``, as ``transfer predict`` does.

    Parameters
    ----------
    images
        Image files, and folders with images; none where ``data`` is given.
    settings
        ``data``, ``part``, ``score``, ``batch``, ``sheet_images``, ``checkpoint``, ``device``, ``overwrite``.

    Raises
    ------
    UserError
        As :func:`detect` does.
    """
    require_detectron2()
    from transfer.detection.predict import predict as predict_images

    return predict_images(Path(run), [Path(image) for image in images], Path(out), **settings)
