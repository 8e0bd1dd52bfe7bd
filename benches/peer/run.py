"""Ours and diffusers on PyTorch side by side, on the same weights, in one run, in turns.

    cargo build --release --example peer
    python benches/peer/run.py demo                 # the embedded model, 128x128: some minutes
    python benches/peer/run.py full SCRATCH         # Stable Diffusion 2.0's size, 512x512, random weights

`full` wants the folder that `tests/fullsize/run.py SCRATCH --only make` writes. Both sides use the same number of threads
(`--threads`, the machine's by default); PyTorch's networks are in channels-last order, `--dtype` says in which precision, and
`--precision` in which ours are (the same by default). Each round does a task once on either side, so that whatever else the machine does falls on both; the table has medians and the
median of the rounds' ratios. Wall clock, and the processor's time, which a busy machine disturbs less.

A frame of ours needs a number of UNet evaluations, which ours tells; the peer then does as many, and one decoding: what the same
pictures would cost it if it had the tree.
"""
import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


class Ours:
    def __init__(self, binary, model, size, precision, threads):
        self.process = subprocess.Popen(
            [binary, str(model), str(size), str(size), precision, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.loaded = json.loads(self.process.stdout.readline())

    def run(self, task):
        self.process.stdin.write(task + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class Peer:
    def __init__(self, folder, size, threads, dtype):
        import torch
        from diffusers import AutoencoderKL, UNet2DConditionModel
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.torch = torch
        kind = getattr(torch, dtype)
        put = lambda model: model.to(kind).to(memory_format=torch.channels_last).eval()
        self.unet = put(UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=kind))
        self.vae = put(AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=kind))
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        side = size // factor
        draw = torch.Generator().manual_seed(1)
        shape = (2, self.unet.config.in_channels, side, side)
        self.latent = torch.randn(shape, generator=draw).to(kind).to(memory_format=torch.channels_last)
        self.context = torch.randn((2, 77, self.unet.config.cross_attention_dim), generator=draw).to(kind)

    def run(self, task, evaluations):
        wall, used = time.perf_counter(), time.process_time()
        for _ in range(evaluations):
            self.unet(self.latent, self.torch.tensor(481), encoder_hidden_states=self.context)
        if task != "unet":
            self.vae.decode(self.latent[:1])
        return {"seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - used}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("demo", "full"))
    parser.add_argument("scratch", type=Path, nargs="?")
    parser.add_argument("--tasks", default="unet,decode,warm,cold")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--precision", choices=("auto", "f32", "bf16"), help="of ours; by default --dtype's")
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/examples/peer")
    arguments = parser.parse_args()
    full = arguments.model == "full"
    precision = arguments.precision or {"float32": "f32", "bfloat16": "bf16"}[arguments.dtype]
    if full and not arguments.scratch:
        parser.error("full wants the folder of tests/fullsize/run.py")
    folder = arguments.scratch / "base" if full else ROOT / "models/demo/standard"
    size = 512 if full else 128
    peer = Peer(folder, size, arguments.threads, arguments.dtype)
    ours = Ours(arguments.binary, folder if full else "demo", size, precision, arguments.threads)
    print(json.dumps(ours.loaded), flush=True)
    print(f"{size}x{size}, {arguments.threads} threads, ours in {ours.loaded['precision']}, the peer in {arguments.dtype}; medians of {arguments.rounds} rounds\n")
    print("| task | evaluations | ours, s | peer, s | ratio | ours, processor s | peer, processor s | ratio |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    highest = 0
    for task in arguments.tasks.split(","):
        evaluations = ours.run(task)["evaluations"]
        peer.run(task, min(evaluations, 1))
        rounds = []
        for _ in range(arguments.rounds):
            mine = ours.run(task)
            highest = mine["peak_bytes"]
            rounds.append((mine, peer.run(task, mine["evaluations"])))
        cells = []
        for kind in ("seconds", "processor_seconds"):
            mine, theirs = ([pair[side][kind] for pair in rounds] for side in (0, 1))
            ratio = statistics.median(b / max(a, 1e-9) for a, b in zip(mine, theirs))
            cells += [f"{statistics.median(mine):.3f}", f"{statistics.median(theirs):.3f}", f"{ratio:.2f}"]
        print(f"| {task} | {evaluations} | {' | '.join(cells)} |", flush=True)
    print(f"\nour highest memory: {highest / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
