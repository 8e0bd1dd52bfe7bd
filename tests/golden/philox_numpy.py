"""PyTorch's CUDA normal noise without CUDA: Philox 4x32-10 and Box-Muller in f32, straight from their definitions.

One CUDA thread draws four normals for one counter. Elements are dealt out so that element p of a tensor belongs to
thread p mod T, where T is the number of threads launched; with at most T elements each is the first of its thread's
four. `threads=None` is a card that always has enough: the portable noise.
"""
import numpy as np

U32 = np.uint64(0xFFFFFFFF)
M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
W0, W1 = 0x9E3779B9, 0xBB67AE85


def philox(counter, key):
    """counter: four u64 arrays holding 32-bit words; key: a 64-bit seed; gives four such arrays."""
    c0, c1, c2, c3 = counter
    k0, k1 = key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF
    s = np.uint64(32)
    for _ in range(10):
        p0, p1 = c0 * M0, c2 * M1
        c0, c1, c2, c3 = (p1 >> s) ^ c1 ^ np.uint64(k0), p1 & U32, (p0 >> s) ^ c3 ^ np.uint64(k1), p0 & U32
        k0, k1 = (k0 + W0) & 0xFFFFFFFF, (k1 + W1) & 0xFFFFFFFF
    return c0, c1, c2, c3


def box_muller(x, y):
    """Two normals from two 32-bit words, in f32 (the words are rounded to f32 first, as curand does)."""
    f = np.float32
    u = x.astype(f) * f(2.0 ** -32) + f(2.0 ** -33)
    v = y.astype(f) * f(2.0 ** -32 * 2 * np.pi) + f(2.0 ** -33 * 2 * np.pi)
    s = np.sqrt(f(-2.0) * np.log(u))
    return s * np.sin(v), s * np.cos(v)


def normals(seed, elements, offset=0, threads=None):
    """Elements (an array of positions) of one randn whose generator stands at `offset` (4 per call that fits the card)."""
    p = np.asarray(elements, dtype=np.uint64)
    t = np.uint64(threads) if threads else None
    if t is None:
        index, component, turn = p, np.zeros_like(p), np.zeros_like(p)
    else:
        q = p % (np.uint64(4) * t)
        index, component, turn = q % t, q // t, p // (np.uint64(4) * t)
    count = turn + np.uint64(offset // 4)
    words = philox((count & U32, count >> np.uint64(32), index & U32, index >> np.uint64(32)), seed)
    four = np.stack([*box_muller(words[0], words[1]), *box_muller(words[2], words[3])])
    return np.take_along_axis(four, component.astype(np.int64)[None], 0)[0]


def next_offset(offset, n, threads=None):
    """Where the generator stands after drawing n values; threads are those of the card, 256 to a block."""
    if threads is None:
        return offset + 4
    launched = 256 * min(threads // 256, -(-n // 256))
    return offset + 4 * -(-n // (4 * launched))


def randn(seed, n, offset=0, threads=None):
    if threads is not None:
        threads = 256 * min(threads // 256, -(-n // 256))
    return normals(seed, np.arange(n), offset, threads)
