"""Records start noise: PyTorch's CPU generator as it is, its CUDA generator as philox_numpy.py makes it.

No GPU took part. What is known of real CUDA output stands in noise_cuda_known.json with its source, and the numpy
version has to give those numbers before its own are written.
"""
import numpy as np
import torch

import philox_numpy as philox
from common import generator, relative, save, save_json

SEEDS = [0, 1, 42, 420, 69731932, 504430820, 2 ** 32 + 5, 2 ** 63 + 11]
SIZES = [3, 15, 16, 17, 20, 256, 1024]

WRAP = 49 * 12 * 112 * 144  # elements: more than any card has threads
KNOWN = [  # printed values, 4 or 6 decimals
    dict(seed=0, start=0, n=None, threads=None, source="torch.randn on CUDA, widely reproduced (stable-diffusion.cpp, A1111's philox test)",
         values=[-0.924663, -0.425344, -2.643846, 0.145184, -0.120866, -0.579726, -0.622851, -0.328387, -1.074542, -0.363144, -1.671051, 2.265505]),
    dict(seed=42, start=0, n=None, threads=None, source="pytorch issue 158398", values=[0.1940, 2.1614, -0.1721]),
    dict(seed=1, start=0, n=None, threads=None, source="section 5.2 of the project's reference notes", values=[-0.2963, 2.6764, -0.1408]),
    dict(seed=1, start=WRAP - 3, n=WRAP, threads=132 * 2048, source="pytorch issue 143086, H100", values=[-0.6970, -0.7780, 0.3267]),
    dict(seed=1, start=WRAP - 3, n=WRAP, threads=108 * 2048, source="pytorch issue 143086, A100", values=[0.1549, -0.6797, -0.1656]),
]


def mt19937(seed, n):
    """The same noise as torch's CPU generator for n >= 16, from numpy's twister and the rule of section 5.1, in f64."""
    draw = np.random.RandomState(seed & 0xFFFFFFFF)
    uniform = lambda k: (draw.randint(0, 2 ** 32, k, dtype=np.uint32) & 0xFFFFFF).astype(np.float64) * 2.0 ** -24

    def block(x):
        radius, angle = np.sqrt(-2 * np.log(1 - x[:8])), 2 * np.pi * x[8:]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])

    x = uniform(n)
    for i in range(0, n - 15, 16):
        x[i:i + 16] = block(x[i:i + 16])
    if n % 16:
        x[n - 16:] = block(uniform(16))
    return x


def record_cpu():
    tensors, worst = {}, 0.0
    for seed in SEEDS:
        for n in SIZES:
            tensors[f"seed{seed}.n{n}"] = torch.randn(n, generator=generator(seed))
            if n >= 16:
                worst = max(worst, relative(tensors[f"seed{seed}.n{n}"], torch.from_numpy(mt19937(seed, n))))
    for name, sizes in (("3_3", (3, 3)), ("3_20_3", (3, 20, 3)), ("16_16", (16, 16)), ("17_5", (17, 5))):
        gen = generator(42)  # several draws from one generator: what one call leaves behind for the next
        for i, n in enumerate(sizes):
            tensors[f"sequence42.{name}.{i}"] = torch.randn(n, generator=gen)
    tensors["latent.seed420"] = torch.randn(1, 4, 16, 16, generator=generator(420))
    print(f"  torch against f64: {worst:.1e}")
    save("noise_cpu", tensors, f32_error=worst)


def record_cuda():
    for case in KNOWN:
        at = np.arange(case["start"], case["start"] + len(case["values"]))
        got = philox.normals(case["seed"], at, threads=case["threads"])
        assert np.abs(got - case["values"]).max() < 6e-5, (case, got)
        if case["seed"] == 0:
            assert np.abs(got - case["values"]).max() < 2e-6, got
    save_json("noise_cuda_known", KNOWN)
    tensors = {}
    for seed in SEEDS:
        for call in range(2):  # the second randn of one generator
            tensors[f"seed{seed}.call{call}"] = philox.randn(seed, 4 * 16 * 16, offset=4 * call)
    for threads in (512, 1024):  # toy cards, so that the wrap shows in a small tensor: one wave, then more than four
        tensors[f"seed1.threads{threads}"] = philox.randn(1, 5000, threads=threads)
        after = philox.next_offset(0, 5000, threads)
        tensors[f"seed1.threads{threads}.call1"] = philox.randn(1, 64, offset=after, threads=threads)
        tensors[f"seed1.threads{threads}.offset"] = np.array([after])
    save("noise_cuda", tensors)


def record():
    record_cpu()
    record_cuda()
