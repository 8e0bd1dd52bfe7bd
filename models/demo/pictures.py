"""Renders the training pictures once into a memory-mapped file that all stages share."""
import json
import os
from multiprocessing import Pool

import numpy as np

import scenes

HELD_OUT = 10_000_000  # pictures from this seed on are never trained on


def _chunk(job):
    path, first, count, total = job
    out = np.lib.format.open_memmap(path, mode="r+")
    attrs = []
    for i in range(first, min(first + count, total)):
        a, out[i] = scenes.picture(i)
        attrs.append(a)
    return attrs


def load(work, count, progress):
    """(pictures [count, 128, 128, 3] uint8, their attributes); rendered at the first call."""
    path, meta = os.path.join(work, "pictures.npy"), os.path.join(work, "pictures.json")
    if not os.path.exists(meta) or len(json.load(open(meta))) != count:
        np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, 128, 128, 3)).flush()
        jobs = [(path, i, 250, count) for i in range(0, count, 250)]
        with Pool() as pool:
            attrs = sum(progress(pool.imap(_chunk, jobs), total=len(jobs), desc="pictures"), [])
        json.dump(attrs, open(meta, "w"))
    return np.load(path, mmap_mode="r"), json.load(open(meta))


def held_out(count, first=0):
    """`count` pictures that no stage trains on."""
    made = [scenes.picture(HELD_OUT + first + i) for i in range(count)]
    return np.stack([m[1] for m in made]), [m[0] for m in made]
