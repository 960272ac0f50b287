"""Exact nearest neighbours: the k largest inner products of each query with a bank, in bounded memory.

The bank passes by in tiles. A tile of similarities is one matrix product, of which few entries can matter: those that reach a threshold,
a value that k entries of the row are known to reach. For the first tile it is the k-th largest maximum of small groups of columns; later
it is the k-th best neighbour so far. Only what passes is sorted, so the time stays near that of the matrix product alone.

The order is total: larger similarity first, then smaller bank index. A neighbour is kept as one 64-bit integer whose natural order is
that order, so that nothing depends on how a sort treats equals, nor on the chunk sizes, nor on the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluation.arrays import Matrix, as_matrix
from evaluation.extraction.checks import check_finite
from evaluation.parallel import ALONE, Processes
from evaluation.products import Products, at_least_fewest
from zoo.errors import UserError

# Rows of a tile (queries, bank). On the CPU that is 32 MiB of similarities, about a large cache; a GPU wants more work a call: 512 MiB.
_CPU_CHUNKS = (1024, 8192)
_GPU_CHUNKS = (4096, 32768)
# Bytes of queries that stay on the device during a search: a GPU, the CPU.
_KEPT_QUERIES = (1 << 30, -1)
# On the CPU a tile is sifted by blocks of so many queries, each by one thread; torch shares work among threads only above 32,768 numbers,
# which the candidates of a block stay below unless k is large.
_CPU_BLOCK = 64
# Columns per group of the first tile: more of them make fewer maxima to sort and a lower threshold, which more entries pass.
_LARGEST_GROUP = 16
# Candidates are merged with the best so far when together they are this many times k: seldom enough to cost little, often enough to
# keep the threshold high.
_MERGE_AT = 2
# Norms beyond these come of squares that leave float32's range, or nearly; they are computed again in float64.
_SAFE_NORMS = (1e-15, 1e15)
# Candidates that are arranged at a time by a thread, some 50 bytes each.
_CANDIDATES_AT_ONCE = 1 << 17
_INDEX_BITS = 32
_LARGEST_INDEX = (1 << _INDEX_BITS) - 1
_NO_KEY = torch.iinfo(torch.int64).min


def top_k(
    queries: Matrix,
    bank: Matrix,
    k: int,
    *,
    normalize: bool = False,
    exclude_self: bool = False,
    device: torch.device | str | None = None,
    query_chunk: int | None = None,
    bank_chunk: int | None = None,
    processes: Processes = ALONE,
) -> tuple[Tensor, Tensor]:
    """The k bank rows with the largest inner product with each query, exactly.

    Parameters
    ----------
    queries, bank
        (Q, D) and (N, D), finite: tensors on any device, or arrays, of any real numbers (:func:`evaluation.arrays.as_matrix`); tiles of
        them are converted to float32, in which similarities are computed and summed.
    k
        Neighbours per query, 1 .. N (N - 1 with ``exclude_self``).
    normalize
        Divide each vector by its L2 norm first, so that the similarity is the cosine. A zero vector stays zero.
    exclude_self
        Query i is bank row i (Q <= N) and is no neighbour of itself. Other rows with the same values are.
    device
        Where tiles are computed; the queries' own device by default.
    query_chunk, bank_chunk
        Rows of a tile. Memory beyond the arguments and the result is a small multiple of their product, in float32, and of ``Q * k``.
    processes
        The processes that share the queries. Each of them must make the same call with the same arguments and gets the whole result.

    Returns
    -------
    similarity
        float32 (Q, k) on the CPU, each row in descending order.
    index
        int64 (Q, k) on the CPU: positions in the bank; equal similarities stand in ascending order of index.

    Raises
    ------
    ValueError
        For shapes that do not fit together or a k out of range.
    UserError
        For NaN, infinity, or numbers that float32 cannot hold. They are looked for on the CPU; a GPU's host would have to wait.
    """
    queries, bank = as_matrix(queries, "queries", least_rows=0), as_matrix(bank, "the bank")
    _check_shapes(queries, bank, k, exclude_self)
    for matrix, name in ((queries, "query"), (bank, "bank")):
        _check_numbers(matrix, name)
    place = torch.device(queries.device if device is None else device)
    default_chunks = _CPU_CHUNKS if place.type == "cpu" else _GPU_CHUNKS
    query_chunk, bank_chunk = query_chunk or default_chunks[0], bank_chunk or default_chunks[1]

    mine = processes.share(len(queries), query_chunk)
    keys = torch.empty(len(queries), k, dtype=torch.int64)
    with torch.no_grad(), torch.autocast(place.type, enabled=False), full_float32():
        search = _Search(queries[mine], mine.start, k, place, normalize, exclude_self, query_chunk)
        keys[mine] = search.through((start, bank[start : start + bank_chunk]) for start in range(0, len(bank), bank_chunk))
    processes.gather_rows(keys, query_chunk)
    return _split(keys, query_chunk)


def neighbours_of_all(
    share: Matrix,
    k: int,
    *,
    total: int,
    chunk: int,
    normalize: bool = False,
    device: torch.device | str | None = None,
    bank_chunk: int | None = None,
    processes: Processes = ALONE,
) -> tuple[Tensor, Tensor]:
    """The k other rows with the largest inner product with each row of a matrix of which every process holds a share, exactly.

    No process ever holds more of the matrix than its share and a tile: each tile is put together from the shares in which it lies, and
    passes by all processes. On the CPU the result has the same bits for any number of processes, and is that of
    ``top_k(matrix, matrix, k, exclude_self=True, query_chunk=chunk)``.

    Parameters
    ----------
    share
        (n, D), finite, as for :func:`top_k`: the rows ``processes.share(total, chunk)`` of the matrix.
    k
        Neighbours per row, 1 .. total - 1. A row is no neighbour of itself; other rows with the same values are.
    total
        Rows of the whole matrix.
    chunk
        What shares are multiples of; on the CPU also the queries in a tile.
    normalize, device, bank_chunk
        As for :func:`top_k`.
    processes
        Who holds the shares. Each must call, and gets the whole result.

    Returns
    -------
    similarity, index
        float32 and int64 (total, k) on the CPU, as of :func:`top_k`.

    Raises
    ------
    ValueError
        For a share of another length, or a k out of range.
    UserError
        As :func:`top_k`, in all processes.
    """
    mine = processes.share(total, chunk)
    share = as_matrix(share, "the share", least_rows=0)
    if len(share) != mine.stop - mine.start:
        raise ValueError(f"the share must have rows {mine.start} .. {mine.stop} of {total}, not the shape {tuple(share.shape)}")
    if not 1 <= k < total:
        raise ValueError(f"k must lie in 1 .. {total - 1}, not {k}")
    error: UserError | None = None
    try:
        _check_numbers(share, "share")
    except UserError as caught:
        error = caught
    processes.raise_first(error)
    place = torch.device(share.device if device is None else device)
    query_chunk, width = (chunk, _CPU_CHUNKS[1]) if place.type == "cpu" else _GPU_CHUNKS
    keys = torch.empty(total, k, dtype=torch.int64)
    with torch.no_grad(), torch.autocast(place.type, enabled=False), full_float32():
        search = _Search(share, mine.start, k, place, normalize, exclude_self=True, chunk=query_chunk)
        keys[mine] = search.through(_passing(share, total, chunk, bank_chunk or width, processes))
    processes.gather_rows(keys, chunk)
    return _split(keys, query_chunk)


def _check_numbers(rows: Tensor, name: str) -> None:
    """Raise UserError for rows on the CPU that hold NaN or infinity."""
    if rows.device.type == "cpu":
        check_finite(rows, name)


def _passing(share: Tensor, total: int, chunk: int, width: int, processes: Processes) -> Iterator[tuple[int, Tensor]]:
    """Tiles of ``width`` rows, with the position of their first, of the matrix whose shares the processes hold."""
    own = processes.share(total, chunk)
    for start in range(0, total, width):
        stop = min(start + width, total)
        if processes.count == 1:
            yield start, share[start:stop]
            continue
        pieces = []
        for source in range(processes.count):
            theirs = processes.share(total, chunk, source)
            first, last = max(start, theirs.start), min(stop, theirs.stop)
            if first < last:
                mine = source == processes.rank
                piece = share[first - own.start : last - own.start] if mine else share.new_empty(last - first, share.shape[1])
                pieces.append(processes.from_process(piece, source))
        yield start, torch.cat(pieces)


def _split(keys: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Similarities and indices, float32 and int64 (Q, k), of keys."""
    similarity, index = torch.empty(keys.shape), torch.empty(keys.shape, dtype=torch.int64)
    for start in range(0, len(keys), chunk):
        rows = slice(start, start + chunk)
        similarity[rows], index[rows] = _similarity_of(keys[rows]), _index_of(keys[rows])
    return similarity, index


def _check_shapes(queries: Tensor, bank: Tensor, k: int, exclude_self: bool) -> None:
    if queries.shape[1] != bank.shape[1]:
        shapes = f"{tuple(queries.shape)} and {tuple(bank.shape)}"
        raise ValueError(f"queries (Q, D) and bank (N, D) must be matrices of the same width, not {shapes}")
    if exclude_self and len(queries) > len(bank):
        raise ValueError(f"with exclude_self the queries are the first rows of the bank, but there are {len(queries)} of {len(bank)}")
    available = len(bank) - exclude_self
    if not 1 <= k <= available:
        raise ValueError(f"k must lie in 1 .. {available}, not {k}")
    if len(bank) > _LARGEST_INDEX:
        raise ValueError(f"a bank may have at most {_LARGEST_INDEX} rows, not {len(bank)}")


class _Search:
    """A search of some queries, tile by tile of the bank."""

    def __init__(
        self, queries: Tensor, position: int, k: int, device: torch.device, normalize: bool, exclude_self: bool, chunk: int
    ) -> None:
        self.queries, self.k, self.device, self.normalize, self.exclude_self = queries, k, device, normalize, exclude_self
        self.position = position  # of the first of these queries among all, for exclude_self
        self.chunks = [slice(start, min(start + chunk, len(queries))) for start in range(0, len(queries), chunk)]
        # On the CPU queries are where they are needed. To a GPU they travel once, if they are not too many, and not for every tile.
        self.kept = [self._prepared(rows) for rows in self.chunks] if 4 * queries.numel() <= _KEPT_QUERIES[device.type == "cpu"] else []
        self.norms = [_norm(queries[rows].to(device, torch.float32)) for rows in self.chunks] if normalize and not self.kept else []
        size = _CPU_BLOCK if device.type == "cpu" else chunk
        self.blocks = [_blocks(rows.stop - rows.start, size, k) for rows in self.chunks]
        self.products = Products()

    def through(self, tiles: Iterable[tuple[int, Tensor]]) -> Tensor:
        """Keys (Q, k), in order, of the best of a bank that passes by in tiles, each with the position of its first row."""
        threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:
            in_turn: Callable[..., Iterable[None]] = map if pool is None else pool.map
            for start, tile in tiles:
                self._see(tile, start, in_turn)
            best = [block.best() for blocks in self.blocks for block in blocks]
        return torch.cat(best) if best else torch.empty(0, self.k, dtype=torch.int64)

    def _see(self, tile: Tensor, offset: int, in_turn: Callable[..., Iterable[None]]) -> None:
        """Take a tile of the bank into account, whose first row has position ``offset`` in the bank."""
        width = len(tile)
        tile = tile.to(device=self.device, dtype=torch.float32)
        tile = at_least_fewest(tile / _norm(tile) if self.normalize else tile)
        for number, rows in enumerate(self.chunks):
            queries = self.kept[number] if self.kept else self._prepared(rows, self.norms[number] if self.normalize else None)
            similarity = self.products.of(queries, tile)[: rows.stop - rows.start, :width]
            if self.exclude_self:
                similarity.diagonal(self.position + rows.start - offset).fill_(-torch.inf)
            for _ in in_turn(lambda block, of=similarity: block.see(of[block.rows], offset), self.blocks[number]):
                pass

    def _prepared(self, rows: slice, norm: Tensor | None = None) -> Tensor:
        """A chunk of the queries as the products take it."""
        queries = self.queries[rows].to(device=self.device, dtype=torch.float32)
        if self.normalize:
            queries = queries / (_norm(queries) if norm is None else norm)
        return at_least_fewest(queries)


class _Block:
    """Some queries of a chunk: their best keys so far, candidates that may still join them, and the threshold for further ones."""

    def __init__(self, rows: slice, k: int) -> None:
        self.rows, self.k = rows, k
        self.kept: Tensor | None = None
        self.threshold: Tensor | None = None

    def see(self, similarity: Tensor, offset: int) -> None:
        """Take a tile's rows (queries, columns) into account, whose first column is bank row ``offset``."""
        if self.threshold is None:
            self.threshold = _first_threshold(similarity, self.k)
        found = _candidates(similarity, self.threshold, offset, self.k)
        self.kept = found if self.kept is None else torch.cat([self.kept, found], dim=1)
        if self.threshold is None or self.kept.shape[1] >= _MERGE_AT * self.k:
            self.kept = best = self.best()
            if best.shape[1] == self.k:
                # Bank rows come in ascending order: one that only equals the k-th neighbour so far stands behind it.
                self.threshold = _similarity_of(best[:, -1:]).nextafter(torch.tensor(torch.inf, device=best.device))

    def best(self) -> Tensor:
        """Keys (queries, up to k) of the best so far, in order."""
        assert self.kept is not None
        return _largest(self.kept, min(self.k, self.kept.shape[1]))


def _blocks(rows: int, size: int, k: int) -> list[_Block]:
    return [_Block(slice(start, min(start + size, rows)), k) for start in range(0, rows, size)]


def _norm(rows: Tensor) -> Tensor:
    """L2 norms (rows, 1) of float32 rows, in float32; 1 for a zero vector."""
    if rows.device.type != "cpu":
        # To ask whether there are unsafe ones would make the host wait; in float64 all are safe.
        exact = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64).to(torch.float32)
        return exact.masked_fill_(exact == 0, 1)
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float32)
    smallest, largest = _SAFE_NORMS
    unsafe = ((norm < smallest) | ~(norm <= largest)).nonzero()[:, 0]
    if unsafe.numel():
        norm[unsafe] = torch.linalg.vector_norm(rows[unsafe], dim=1, keepdim=True, dtype=torch.float64).to(torch.float32)
    return norm.masked_fill_(norm == 0, 1)


def _first_threshold(similarity: Tensor, k: int) -> Tensor | None:
    """A value (rows, 1) that at least k entries of each row reach: the k-th largest of the maxima of disjoint groups of columns.

    None for a tile too narrow for that to leave much out.
    """
    width = similarity.shape[1]
    size = min(_LARGEST_GROUP, width // (2 * k))
    if size < 2:
        return None
    count = width // size
    # Group g is the columns g, g + count, g + 2 count, ...: so the maxima are taken along contiguous memory.
    groups = similarity[:, : size * count].unflatten(1, (size, count))
    if similarity.device.type == "cpu":
        return torch.from_numpy(np.partition(groups.numpy().max(1), count - k, axis=1)[:, count - k, None])
    return groups.amax(1).topk(k).values[:, -1:]


def _candidates(similarity: Tensor, threshold: Tensor | None, offset: int, k: int) -> Tensor:
    """Keys (rows, m) of the entries that reach the threshold, or of the k best where there are many; short rows end in ``_NO_KEY``."""
    rows, width = similarity.shape
    device = similarity.device
    positions = _positions(similarity, torch.tensor(-torch.inf, device=device) if threshold is None else threshold)
    ends = torch.searchsorted(positions, torch.arange(1, rows + 1, device=device) * width)[:, None]
    counts = ends.diff(dim=0, prepend=ends.new_zeros(1, 1))
    most = int(counts.max())
    crowded = most > _MERGE_AT * k
    slots = torch.arange(most, device=device)
    flat = similarity.reshape(-1)
    keys = torch.empty(rows, k if crowded else most, dtype=torch.int64, device=device)
    step = max(1, _CANDIDATES_AT_ONCE // max(1, most))
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        beyond = slots >= counts[part]
        places = (ends[part] - counts[part] + slots).masked_fill_(beyond, 0)
        chosen = positions.index_select(0, places.flatten())
        index = chosen.view_as(places) - torch.arange(part.start, part.stop, device=device)[:, None] * width + offset
        arranged = _keys(flat.index_select(0, chosen).view_as(places), index).masked_fill_(beyond, _NO_KEY)
        keys[part] = _largest(arranged, k) if crowded else arranged
    return keys


# On the CPU the scans and sorts are NumPy's, which are vectorised and several times as fast as torch's.


def _positions(similarity: Tensor, threshold: Tensor) -> Tensor:
    """Positions, in the flattened matrix, of the entries that reach the threshold, ascending."""
    if similarity.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(similarity.numpy() >= threshold.numpy()))
    return (similarity >= threshold).flatten().nonzero()[:, 0]


def _largest(keys: Tensor, k: int) -> Tensor:
    """The k largest keys of each row, descending."""
    if keys.device.type == "cpu":
        return torch.from_numpy(np.sort(keys.numpy(), axis=1)[:, : -k - 1 : -1].copy())
    return keys.topk(k).values


def _keys(similarity: Tensor, index: Tensor) -> Tensor:
    """int64 keys whose descending order is: larger similarity first, then smaller index."""
    # + 0.0 turns -0.0 into 0.0: the two are equal. The bits of a float order like a signed integer once those of negatives are inverted.
    bits = (similarity + 0.0).view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(torch.int64) << _INDEX_BITS) | (_LARGEST_INDEX - index)


def _similarity_of(keys: Tensor) -> Tensor:
    ordered = (keys >> _INDEX_BITS).to(torch.int32)
    return (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)


def _index_of(keys: Tensor) -> Tensor:
    return _LARGEST_INDEX - (keys & _LARGEST_INDEX)


@contextmanager
def full_float32() -> Iterator[None]:
    """Matrix products in full float32, whatever the caller allowed (TF32 on a GPU, bfloat16 on a CPU)."""
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # torch < 2.9
        allowed = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(allowed)
        return
    everywhere: Any = torch.backends
    backends = (everywhere.cuda.matmul, everywhere.mkldnn.matmul)
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
