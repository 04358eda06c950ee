# mypy: ignore-errors
# ruff: noqa: ANN001, N803 - a kernel's arguments are pointers and numbers; constants are capitals
"""Split-KV attention in Triton over keys that lie scattered in memory, with its log-sum-exp.

Flash-decoding (Dao et al. 2023): blocks of keys are shared out among programs, each program keeps a
running softmax, and a second kernel joins what they found by its log-sum-exp. Keys are found
through a table of addresses, so cached passages are read where they are and never copied.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit(do_not_specialize=["layer", "rows", "most"])
def partial_attention(
    query,
    base,
    table,
    work,
    rows_begin,
    out,
    lse,
    scale,
    layer,
    kv_heads,
    rows,
    most,
    DIM: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Attend to one share of the blocks; grid (most / ROWS, kv_heads, shares).

    Args:
        query: (kv_heads, rows, DIM), contiguous, the rows of each request side by side.
        base: any tensor of the keys' dtype; the table counts from it.
        table: int64 (blocks, 5): where keys and values of layer 0, head 0 begin, steps from head to
            head and from layer to layer, all in units of 8 elements; and tokens, 1 to BLOCK.
        work: int32 (shares, 3): request, first block, end block; no share is empty.
        rows_begin: int32 (requests + 1,): where the rows of each request begin.
        out: float32 (shares, kv_heads, most, DIM), written.
        lse: float32 (shares, kv_heads, most), natural logarithm, written.
        scale: multiplies the logits.
        layer: whose keys to read.
        kv_heads: how many.
        rows: queries times grouped heads, of all requests.
        most: rows of the request that has most.
        DIM: head dimension, a multiple of 8.
        WIDE: the power of two from DIM on, at least 16.
        ROWS: rows of one program, at least 16.
        BLOCK: most tokens of a block.
    """
    head = tl.program_id(1)
    share = tl.program_id(2)
    request = tl.load(work + share * 3)
    first = tl.load(work + share * 3 + 1)
    end = tl.load(work + share * 3 + 2)
    start = tl.load(rows_begin + request)
    count = tl.load(rows_begin + request + 1) - start
    if tl.program_id(0) * ROWS >= count:
        return
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    dim = tl.arange(0, WIDE)
    inside = (row[:, None] < count) & (dim[None, :] < DIM)
    place = (head * rows + start + row[:, None]).to(tl.int64) * DIM + dim[None, :]
    queries = tl.load(query + place, mask=inside, other=0.0)
    highest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mean = tl.zeros([ROWS, WIDE], tl.float32)
    for block in range(first, end):
        entry = table + block * 5
        ahead = head * tl.load(entry + 2) + layer * tl.load(entry + 3)
        seen = column < tl.load(entry + 4)
        there = seen[:, None] & (dim[None, :] < DIM)
        step = column[:, None] * DIM + dim[None, :]
        # A multiple of 8 elements by construction: loads are 16 bytes wide.
        keys = tl.load(base + (tl.load(entry) + ahead) * 8 + step, mask=there, other=0.0)
        logits = tl.dot(queries, tl.trans(keys)) * (scale * LOG2_E)
        logits = tl.where(seen[None, :], logits, float("-inf"))
        higher = tl.maximum(highest, tl.max(logits, 1))
        weights = tl.exp2(logits - higher[:, None])
        shrink = tl.exp2(highest - higher)
        total = total * shrink + tl.sum(weights, 1)
        values = tl.load(base + (tl.load(entry + 1) + ahead) * 8 + step, mask=there, other=0.0)
        mean = tl.dot(weights.to(values.dtype), values, mean * shrink[:, None])
        highest = higher
    place = ((share * kv_heads + head) * most + row).to(tl.int64)
    tl.store(out + place[:, None] * DIM + dim[None, :], mean / total[:, None], mask=inside)
    tl.store(lse + place, (highest + tl.log2(total)) * LN_2, mask=row < count)


@triton.jit(do_not_specialize=["rows", "most"])
def join_shares(
    out,
    lse,
    begin,
    rows_begin,
    joined_out,
    joined_lse,
    rows,
    most,
    DIM: tl.constexpr,
    WIDE: tl.constexpr,
) -> None:
    """Join the shares of each request; grid (most, kv_heads, requests).

    Args:
        out: float32 (shares, kv_heads, most, DIM), as `partial_attention` wrote it.
        lse: float32 (shares, kv_heads, most).
        begin: int32 (requests + 1,): the shares of each request stand side by side.
        rows_begin: as of `partial_attention`.
        joined_out: float32 (kv_heads, rows, DIM), written.
        joined_lse: float32 (kv_heads, rows), written.
        rows: of all requests.
        most: rows of the request that has most.
        DIM: head dimension.
        WIDE: the power of two from DIM on, at least 16.
    """
    row = tl.program_id(0)
    head = tl.program_id(1)
    request = tl.program_id(2)
    start = tl.load(rows_begin + request)
    if row >= tl.load(rows_begin + request + 1) - start:
        return
    dim = tl.arange(0, WIDE)
    inside = dim < DIM
    highest = float("-inf")
    total = 0.0
    mean = tl.zeros([WIDE], tl.float32)
    for share in range(tl.load(begin + request), tl.load(begin + request + 1)):
        place = ((share * tl.num_programs(1) + head) * most + row).to(tl.int64)
        of_share = tl.load(lse + place)
        higher = tl.maximum(highest, of_share)
        shrink = tl.exp(highest - higher)
        weight = tl.exp(of_share - higher)
        total = total * shrink + weight
        part = tl.load(out + place * DIM + dim, mask=inside, other=0.0)
        mean = mean * shrink + part * weight
        highest = higher
    place = (head * rows + start + row).to(tl.int64)
    tl.store(joined_out + place * DIM + dim, mean / total, mask=inside)
    tl.store(joined_lse + place, highest + tl.log(total))
