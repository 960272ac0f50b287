"""Several processes: the same bits as one, for any number of images, and errors that reach all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_network import TRANSFORM, Network, Spoiled, in_files, in_memory, pictures
from torch import Tensor, distributed, multiprocessing

from evaluation.extraction.features import extract_features
from evaluation.parallel import ALONE, Processes, choose_device, stop_processes
from evaluation.search import neighbours_of_all, top_k
from evaluation.tasks.knn.votes import evaluate_knn
from evaluation.tasks.linear.exact import CropFeatures
from evaluation.tasks.linear.presets import LINEAR_PRESETS
from evaluation.tasks.runtime import Runtime
from zoo.errors import UserError
from zoo.models.model import Model

# (images, batch size): more batches than processes, as many, fewer; fewer images than processes.
CASES = [(7, 2), (8, 2), (9, 2), (7, 4), (9, 3), (8, 100), (9, 100), (1, 1), (2, 1)]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize(("total", "chunk"), [(0, 4), (1, 4), (7, 2), (8, 2), (9, 2), (9, 100), (1000, 7)])
def test_shares_are_whole_chunks_without_gap_or_overlap(count: int, total: int, chunk: int) -> None:
    shares = [Processes(rank, count).share(total, chunk) for rank in range(count)]
    rows = [row for share in shares for row in range(share.start, share.stop)]
    assert rows == list(range(total))
    assert all(share.start % chunk == 0 or share.start == total for share in shares)
    chunks = [-(-(share.stop - share.start) // chunk) for share in shares]
    assert max(chunks) - min(chunks) <= 1
    assert Processes(0, count).share(total, chunk, count - 1) == shares[-1]


def test_one_process_gathers_nothing_and_raises_its_own_error() -> None:
    rows = torch.arange(6.0)
    ALONE.gather_rows(rows, 2)
    assert rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert ALONE.gather_objects("x") == ["x"]
    ALONE.raise_first(None)
    with pytest.raises(UserError, match="mine"):
        ALONE.raise_first(UserError("mine"))
    assert ALONE.from_main(lambda: 3) == 3
    assert ALONE.sum(rows) is rows


def test_devices_that_are_not_there_are_refused() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UserError, match="no device 'gpu'"):
        choose_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="sees no GPU"):
            choose_device("cuda")


def everything(processes: Processes) -> dict[str, Tensor]:
    """Whatever processes share, on small data: for one process, or collectively."""
    found: dict[str, Tensor] = {}
    for count, batch_size in CASES:
        images = in_memory(pictures(count))
        found[f"features {count} {batch_size}"] = extract_features(Network(), images, TRANSFORM, batch_size=batch_size).features
    generator = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(300, 12, generator=generator), torch.randn(101, 12, generator=generator)
    for chunk in (1, 20, 1000):
        found[f"similarity {chunk}"], found[f"index {chunk}"] = top_k(queries, bank, 30, query_chunk=chunk, processes=processes)
    found["self excluded"] = top_k(bank[:50], bank, 5, exclude_self=True, query_chunk=7, processes=processes)[1]
    for chunk, width in ((7, 50), (64, 1000), (1000, 90)):
        share = bank[processes.share(300, chunk)]
        found[f"cosines {chunk}"], found[f"neighbours {chunk}"] = neighbours_of_all(
            share, 5, total=300, chunk=chunk, bank_chunk=width, normalize=True, processes=processes
        )
    labels, truth = np.arange(300) % 6, np.arange(101) % 6
    scores = evaluate_knn(bank, labels, queries, truth, processes=processes).scores
    found["kNN"] = torch.stack([torch.from_numpy(score.predictions) for score in scores.values()])
    for epoch in (0, 1):
        preset = LINEAR_PRESETS["moco"].change(mode="exact", batch=6)
        model = Model(Network().eval(), "toy", "random", "toy", 6, "0")
        crops = CropFeatures(model, in_memory(pictures(12)), TRANSFORM, preset, Runtime(processes=processes))
        rows, index = (torch.cat(parts) for parts in zip(*crops.batches(epoch), strict=True))
        found[f"crops {epoch}"], found[f"crops of {epoch}"] = rows, index
    found["counts"] = torch.tensor([[score.correct, score.correct5] for score in scores.values()])
    return found


def refuse(rank: int) -> None:
    raise UserError(f"refused by {rank}")


def work(rank: int, count: int, folder: str) -> None:
    """One of several processes."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet{count}", rank=rank, world_size=count)
    processes = Processes.current()
    assert (processes.rank, processes.count, processes.is_main) == (rank, count, rank == 0)
    torch.save(everything(processes), f"{folder}/{count}-{rank}.pt")

    assert processes.from_main(lambda: f"of {rank}") == "of 0"
    with pytest.raises(UserError, match="refused by 0"):
        processes.from_main(lambda: refuse(rank))
    assert processes.sum(torch.arange(3) + rank).tolist() == [sum(range(count)) + count * position for position in range(3)]

    wrapped = torch.nn.parallel.DistributedDataParallel(Network())
    features = extract_features(wrapped, in_memory(pictures(9)), TRANSFORM, batch_size=2).features
    assert torch.equal(features, extract_features(Network(), in_memory(pictures(9)), TRANSFORM, batch_size=2, processes=ALONE).features)

    # Each of these lies in the share of the last process, and must stop all of them with the same sentence.
    spoiled = pictures(9)
    spoiled[:, 0, 0] = 255
    spoiled[8, 0, 0] = 0
    with pytest.raises(UserError, match=r"1 of 9 feature vectors .* image toy test #8"):
        extract_features(Spoiled(), in_memory(spoiled), TRANSFORM, batch_size=1)
    images_folder = Path(folder) / f"images-{count}-{rank}"
    images_folder.mkdir()
    images = in_files(pictures(9), images_folder)
    (images_folder / "08.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=rf"images-{count}-{count - 1}/08\.png cannot be decoded"):
        extract_features(Network(), images, TRANSFORM, batch_size=1, workers=0)
    stop_processes()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_give_the_bits_of_one(count: int, tmp_path: Path) -> None:
    multiprocessing.start_processes(work, (count, str(tmp_path)), nprocs=count, start_method="spawn")
    alone = everything(ALONE)
    for rank in range(count):
        theirs = torch.load(tmp_path / f"{count}-{rank}.pt")
        assert theirs.keys() == alone.keys()
        for name, mine in alone.items():
            if name in ("crops 0", "crops 1"):  # convolutions of other numbers of images may be rounded otherwise
                torch.testing.assert_close(theirs[name], mine)
            else:
                assert torch.equal(theirs[name], mine), f"{name}, process {rank}"
