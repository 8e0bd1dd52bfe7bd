"""Single layers of Stable Diffusion 2.0 by ours and by PyTorch's oneDNN, beside each other in one run.

    cargo bench --bench kernels --no-run            # prints the program's path
    python benches/peer/layers.py PROGRAM [--level amx] [--precision bf16] [--direct] [--layers 3x3] [--rounds 3]

PROGRAM measures ours (benches/kernels); each round runs it, then the same layers by `torch.nn.functional` (convolutions in channels-last order, `linear`, `scaled_dot_product_attention`), of which oneDNN computes the first two: the best
of all repetitions counts on both sides, for whatever else the machine does only adds to it. ONEDNN_MAX_CPU_ISA in the environment
(AVX512_CORE_BF16, say) holds PyTorch to a level, `--level` ours.
"""
import argparse
import os
import re
import subprocess
import time

import torch
import torch.nn.functional as F

LAYER = re.compile(r"^\| (.+?) \| ([\d.]+) \| (\d+) \| (.+?) \|$")
PEAK = re.compile(r"^products in the registers: (\d+) GMAC/s$", re.MULTILINE)


def ours(program, level, layers, precision, direct):
    """Name, milliseconds and GMAC/s of each layer; GMAC/s of products that touch no memory."""
    run = subprocess.run([program, level, layers, precision, *["direct"] * direct], check=True, stdout=subprocess.PIPE, text=True)
    found = [LAYER.match(line) for line in run.stdout.splitlines()]
    layers = {m[1]: (float(m[2]), float(m[3])) for m in found if m and m[1] != "layer"}
    return layers, float((PEAK.search(run.stdout) or [0, 0])[1])


def peer(name, kind):
    """What does the layer of that name; none for those that PyTorch has no single function for."""
    draw = torch.Generator().manual_seed(1)
    normal = lambda *shape: torch.randn(shape, generator=draw).mul(0.1).to(kind)
    if m := re.fullmatch(r"3x3, (\d+) to (\d+), (\d+) x (\d+)x\d+", name):
        c, outputs, n, side = map(int, m.groups())
        put = lambda x: x.to(memory_format=torch.channels_last)
        conv = torch.nn.Conv2d(c, outputs, 3, padding=1).to(kind).to(memory_format=torch.channels_last)
        x = put(normal(n, c, side, side))
        return lambda: conv(x)
    if m := re.fullmatch(r"linear, (\d+) to (\d+), (\d+) rows", name):
        c, outputs, rows = map(int, m.groups())
        x, weight, bias = normal(rows, c), normal(outputs, c), normal(outputs)
        return lambda: F.linear(x, weight, bias)
    if m := re.fullmatch(r"attention, (\d+) x (\d+) tokens, (\d+) heads of (\d+)", name):
        n, tokens, heads, width = map(int, m.groups())
        q, k, v = (normal(n, tokens, heads, width).transpose(1, 2) for _ in range(3))
        return lambda: F.scaled_dot_product_attention(q, k, v)
    return None


def best(work, seconds=0.25):
    work()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--level", default="best")
    parser.add_argument("--precision", default="bf16", choices=("f32", "bf16"))
    parser.add_argument("--direct", action="store_true", help="ours not by Winograd's method (bf16)")
    parser.add_argument("--layers", default="", help="part of a layer's name")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    os.environ["RAYON_NUM_THREADS"] = str(arguments.threads)
    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[arguments.precision]
    print(f"{arguments.precision}, ours at level {arguments.level}, PyTorch {torch.__version__} at "
          f"{os.environ.get('ONEDNN_MAX_CPU_ISA', 'its best level')}, {arguments.threads} threads, best of {arguments.rounds} rounds\n")
    print("| layer | ours, ms | GMAC/s | of the peak | PyTorch, ms | GMAC/s | ratio |\n|---|---|---|---|---|---|---|", flush=True)
    measured, peak = {}, 0
    for _ in range(arguments.rounds):
        layers, highest = ours(arguments.program, arguments.level, arguments.layers, arguments.precision, arguments.direct)
        peak = max(peak, highest)
        for name, (mine, rate) in layers.items():
            work = peer(name, kind)
            if work is not None:
                measured.setdefault(name, []).append((mine, rate, best(work)))
    for name, rounds in measured.items():
        mine, rate, _ = min(rounds)
        theirs = min(peer_ms for _, _, peer_ms in rounds)
        share = f"{100 * rate / peak:.0f} %" if peak else "not known"
        print(f"| {name} | {mine:.2f} | {rate:.0f} | {share} | {theirs:.2f} | {rate * mine / theirs:.0f} | {theirs / mine:.2f} |", flush=True)
    if peak:
        print(f"\nproducts in the registers: {peak:.0f} GMAC/s")


if __name__ == "__main__":
    main()
