"""Nearest-neighbour search against sorted NumPy matrices and faiss: values, order, ties, precision, memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluation import search
from evaluation.search import neighbours_of_all, top_k


def sorted_whole(queries: Tensor, bank: Tensor, k: int, exclude_self: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The definition: all similarities in float64, sorted by larger value, then smaller index."""
    similarity = queries.double().numpy() @ bank.double().numpy().T
    if exclude_self:
        np.fill_diagonal(similarity, -np.inf)
    columns = np.broadcast_to(np.arange(similarity.shape[1]), similarity.shape)
    index = np.lexsort((columns, -similarity), axis=1)[:, :k]
    return np.take_along_axis(similarity, index, 1), index


def whole_numbers(rows: int, width: int, largest: int, seed: int) -> Tensor:
    """Vectors whose products are exact in float32, and often equal."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-largest, largest + 1, (rows, width))).float()


def gaussian(rows: int, width: int, seed: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(40))
def test_order_is_total_whatever_the_chunks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    exclude_self = bool(seed % 2)
    count, width = int(rng.integers(2, 900)), int(rng.integers(1, 12))
    bank = whole_numbers(count, width, int(rng.integers(1, 4)), seed)
    queries = bank[: min(count, 40)].clone() if exclude_self else whole_numbers(int(rng.integers(1, 60)), width, 3, seed + 1000)
    k = int(rng.integers(1, count - exclude_self + 1))
    similarity, index = top_k(
        queries, bank, k, exclude_self=exclude_self, query_chunk=int(rng.integers(1, 40)), bank_chunk=int(rng.integers(1, 1000))
    )
    wanted_similarity, wanted_index = sorted_whole(queries, bank, k, exclude_self)
    np.testing.assert_array_equal(similarity.numpy(), wanted_similarity)
    np.testing.assert_array_equal(index.numpy(), wanted_index)
    assert not np.signbit(similarity.numpy()[wanted_similarity == 0]).any()


@pytest.mark.parametrize("k", [1, 20, 200, 1500])
def test_wide_tiles_are_filtered_without_loss(k: int) -> None:
    queries, bank = whole_numbers(70, 8, 2, 0), whole_numbers(20_000, 8, 2, 1)
    similarity, index = top_k(queries, bank, k, query_chunk=32, bank_chunk=7000)
    wanted_similarity, wanted_index = sorted_whole(queries, bank, k)
    np.testing.assert_array_equal(similarity.numpy(), wanted_similarity)
    np.testing.assert_array_equal(index.numpy(), wanted_index)


def test_real_numbers_match_float64_and_faiss() -> None:
    faiss = pytest.importorskip("faiss")
    queries, bank = gaussian(150, 64, 0), gaussian(5000, 64, 1)
    similarity, index = top_k(queries, bank, 50, bank_chunk=1700)
    exact, wanted = sorted_whole(queries, bank, 51)
    np.testing.assert_allclose(similarity.numpy(), exact[:, :50], rtol=0, atol=2e-5)
    # Neighbours whose similarities float32 can tell from those beside them stand where they must.
    clear = np.minimum(exact[:, :50] - exact[:, 1:], np.diff(exact[:, :50], axis=1, prepend=np.inf) * -1) > 1e-4
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(index.numpy()[clear], wanted[:, :50][clear])

    peer = faiss.IndexFlatIP(64)
    peer.add(bank.numpy())
    peer_similarity, peer_index = peer.search(queries.numpy(), 50)
    np.testing.assert_allclose(similarity.numpy(), peer_similarity, rtol=0, atol=2e-5)
    np.testing.assert_array_equal(index.numpy()[clear], peer_index[clear])


@pytest.mark.parametrize("shape", [(1, 64), (3, 100), (16, 512), (70, 33)])
def test_copies_of_a_vector_are_equally_near_and_stand_by_index(shape: tuple[int, int]) -> None:
    count, width = shape
    queries, distinct = gaussian(count, width, 0), gaussian(500, width, 1)
    origin = torch.from_numpy(np.random.default_rng(2).permutation(np.repeat(np.arange(500), 5)))
    similarity, index = top_k(queries, distinct[origin], 123, query_chunk=64, bank_chunk=999)
    _, nearest = sorted_whole(queries, distinct, 25)
    for row in range(count):
        copies = np.concatenate([np.flatnonzero(origin.numpy() == vector) for vector in nearest[row]])
        np.testing.assert_array_equal(index[row].numpy(), copies[:123])
        assert len(similarity[row].unique()) == 25


def test_chunks_and_threads_change_no_bit() -> None:
    queries, bank = gaussian(101, 96, 0), gaussian(3001, 96, 1)
    whole = top_k(queries, bank, 40, normalize=True)
    threads = torch.get_num_threads()
    try:
        for query_chunk, bank_chunk, count in [(1, 3001, 1), (100, 1500, 2), (17, 3000, 3), (101, 7, 1)]:
            torch.set_num_threads(count)
            parts = top_k(queries, bank, 40, normalize=True, query_chunk=query_chunk, bank_chunk=bank_chunk)
            assert torch.equal(parts[0], whole[0])
            assert torch.equal(parts[1], whole[1])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("collapsed", [0.0, 1.0, -3.5])
def test_a_collapsed_bank_gives_its_first_rows(collapsed: float) -> None:
    similarity, index = top_k(gaussian(30, 8, 0), torch.full((5000, 8), collapsed), 7, bank_chunk=2000)
    assert torch.equal(index, torch.arange(7).expand(30, 7))
    assert torch.equal(similarity, similarity[:, :1].expand(30, 7))


def test_a_bank_that_gets_ever_nearer_is_searched_to_its_end() -> None:
    bank = torch.linspace(-1, 1, 9000)[:, None].repeat(1, 4)
    similarity, index = top_k(torch.ones(20, 4), bank, 300, query_chunk=8, bank_chunk=1000)
    assert torch.equal(index, torch.arange(8999, 8699, -1).expand(20, 300))
    assert bool((similarity.diff(dim=1) <= 0).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_summed_in_float32(dtype: torch.dtype) -> None:
    queries, bank = gaussian(40, 256, 0).to(dtype), gaussian(3000, 256, 1).to(dtype)
    similarity, index = top_k(queries, bank, 30, bank_chunk=800)
    as_float32 = top_k(queries.float(), bank.float(), 30, bank_chunk=800)
    assert similarity.dtype == torch.float32
    assert torch.equal(similarity, as_float32[0])
    assert torch.equal(index, as_float32[1])


def test_normalize_compares_by_cosine_for_any_length() -> None:
    queries, bank = gaussian(30, 48, 0), gaussian(2000, 48, 1)
    lengths = 10.0 ** torch.linspace(-30, 30, 2000)[:, None]
    similarity, index = top_k(queries * 1e-25, bank * lengths, 10, normalize=True)
    unit_queries, unit_bank = (rows.double() / rows.double().norm(dim=1, keepdim=True) for rows in (queries, bank))
    exact, wanted = sorted_whole(unit_queries, unit_bank, 10)
    np.testing.assert_allclose(similarity.numpy(), exact, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(index.numpy(), wanted)


def test_a_zero_vector_has_similarity_zero() -> None:
    bank = torch.eye(20)
    bank[3] = 0
    similarity, index = top_k(-torch.eye(20)[:2], bank, 20, normalize=True)
    assert similarity[0].tolist() == [0.0] * 19 + [-1.0]
    assert index[0].tolist() == [*range(1, 20), 0]


def test_arguments_are_not_changed() -> None:
    queries, bank = gaussian(20, 16, 0), gaussian(300, 16, 1)
    before = queries.clone(), bank.clone()
    top_k(queries, bank, 5, normalize=True)
    top_k(bank, bank, 5, exclude_self=True)
    assert torch.equal(queries, before[0])
    assert torch.equal(bank, before[1])


def test_lower_precision_that_the_caller_allowed_is_not_used() -> None:
    queries, bank = gaussian(64, 128, 0), gaussian(1000, 128, 1)
    plain = top_k(queries, bank, 20)
    allowed = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            guarded = top_k(queries, bank, 20)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(allowed)
    assert torch.equal(plain[0], guarded[0])
    assert torch.equal(plain[1], guarded[1])


def test_inference_mode_is_no_obstacle() -> None:
    queries, bank = gaussian(100, 16, 0), gaussian(9000, 16, 1)
    plain = top_k(queries, bank, 20)
    with torch.inference_mode():
        inside = top_k(queries, bank, 20)
    assert torch.equal(plain[1], inside[1])


@pytest.mark.parametrize(
    ("queries", "bank", "k", "exclude_self", "message"),
    [
        ((3, 4), (9, 5), 1, False, "same width"),
        ((3,), (9, 5), 1, False, "must be a matrix"),
        ((3, 4), (9, 4), 0, False, "1 .. 9, not 0"),
        ((3, 4), (9, 4), 10, False, "1 .. 9, not 10"),
        ((9, 4), (9, 4), 9, True, "1 .. 8, not 9"),
        ((10, 4), (9, 4), 1, True, "10 of 9"),
    ],
)
def test_senseless_arguments_are_refused(
    queries: tuple[int, ...], bank: tuple[int, ...], k: int, exclude_self: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        top_k(torch.zeros(queries), torch.zeros(bank), k, exclude_self=exclude_self)


def test_no_queries_have_no_neighbours() -> None:
    similarity, index = top_k(torch.zeros(0, 4), gaussian(9, 4, 0), 3)
    assert similarity.shape == index.shape == (0, 3)


MEASURE = """
import resource, torch
from evaluation.search import neighbours_of_all, top_k
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
queries, bank = torch.randn(3000, 64, generator=generator), torch.randn(30000, 64, generator=generator)
{change}
top_k(queries[:20], bank[:20], 5)  # what the libraries allocate once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
top_k(queries, bank, 200, normalize=True)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
@pytest.mark.parametrize("change", ["", "bank[:] = bank[0]"], ids=["random", "collapsed"])
def test_memory_is_bounded(change: str) -> None:
    # The whole matrix of similarities would take 343 MiB, and its keys twice that.
    done = subprocess.run([sys.executable, "-c", MEASURE.format(change=change)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 250


def test_group_maxima_are_a_bar_that_k_entries_reach() -> None:
    similarity = gaussian(50, 3000, 0)
    for k in (1, 7, 100, 700):
        threshold = search._first_threshold(similarity, k)
        assert threshold is not None
        assert bool(((similarity >= threshold).sum(1) >= k).all())
    assert search._first_threshold(similarity, 1000) is None

@pytest.mark.parametrize("seed", range(10))
def test_neighbours_of_all_are_those_of_the_sorted_matrix(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, width, chunk = int(rng.integers(3, 600)), int(rng.integers(1, 9)), int(rng.integers(1, 40))
    rows = whole_numbers(count, width, int(rng.integers(1, 4)), seed)
    k = int(rng.integers(1, min(count, 30)))
    similarity, index = neighbours_of_all(rows, k, total=count, chunk=chunk, bank_chunk=int(rng.integers(1, 300)))
    wanted_similarity, wanted_index = sorted_whole(rows, rows, k, exclude_self=True)
    np.testing.assert_array_equal(similarity.numpy(), wanted_similarity)
    np.testing.assert_array_equal(index.numpy(), wanted_index)


def test_a_copy_is_a_neighbour_and_the_row_itself_is_not() -> None:
    """A row is left out by its number: dropping the first hit would leave out a copy of it, or keep the row."""
    rows = gaussian(300, 16, 0)
    rows[200] = rows[7]
    _, index = neighbours_of_all(rows, 5, total=300, chunk=64, normalize=True)
    assert (index != torch.arange(300)[:, None]).all()
    assert (index[7, 0], index[200, 0]) == (200, 7)
    _, index = neighbours_of_all(torch.ones(40, 3), 39, total=40, chunk=16)
    assert all(row == [other for other in range(40) if other != number] for number, row in enumerate(index.tolist()))


def test_neighbours_of_all_have_the_bits_of_top_k() -> None:
    rows = gaussian(700, 33, 0)
    found = neighbours_of_all(rows, 5, total=700, chunk=256, bank_chunk=300, normalize=True)
    expected = top_k(rows, rows, 5, exclude_self=True, query_chunk=256, bank_chunk=300, normalize=True)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("rows", "k", "total", "message"),
    [(10, 10, 10, r"k must lie in 1 .. 9, not 10"), (10, 0, 10, r"not 0"), (9, 3, 10, r"rows 0 .. 10 of 10, not the shape \(9, 4\)")],
)
def test_a_share_of_another_length_or_a_k_out_of_range_is_refused(rows: int, k: int, total: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        neighbours_of_all(torch.zeros(rows, 4), k, total=total, chunk=4)


@pytest.mark.cuda
@pytest.mark.parametrize("seed", range(6))
def test_a_gpu_gives_the_same_order(seed: int) -> None:
    queries, bank = whole_numbers(300, 24, 2, seed), whole_numbers(20_000, 24, 2, seed + 100)
    on_cpu = top_k(queries, bank, 150, exclude_self=False)
    for chunks in ((None, None), (64, 3000)):
        on_gpu = top_k(queries, bank, 150, device="cuda", query_chunk=chunks[0], bank_chunk=chunks[1])
        assert on_gpu[0].device.type == "cpu"
        assert torch.equal(on_gpu[0], on_cpu[0])
        assert torch.equal(on_gpu[1], on_cpu[1])


@pytest.mark.cuda
def test_a_gpu_finds_the_neighbours_of_all_that_the_cpu_finds() -> None:
    rows = whole_numbers(3000, 24, 2, 0)
    found = [neighbours_of_all(rows, 5, total=3000, chunk=256, device=device) for device in ("cpu", "cuda")]
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.cuda
def test_a_gpu_does_not_round_to_tf32() -> None:
    queries, bank = gaussian(100, 512, 0), gaussian(5000, 512, 1)
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        similarity, _ = top_k(queries, bank, 20, device="cuda")
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    np.testing.assert_allclose(similarity.numpy(), sorted_whole(queries, bank, 20)[0], rtol=0, atol=1e-4)
