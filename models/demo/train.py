"""Trains the demo model: `python train.py --work DIR`. Stops and goes on at any time; see README.md.

Each stage leaves a checkpoint in --work and is skipped or continued when it is found there.
"""
import argparse
import importlib
import os
import subprocess
import sys

import torch

import common
import pictures

STAGES = ["vae", "text", "latents", "unet", "inpaint", "decoder", "export"]
SHARED = ["vae", "latents", "unet", "inpaint", "decoder"]  # stages that several workers do together


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--work", required=True, help="folder for pictures and checkpoints (about 8 GB)")
    p.add_argument("--stage", choices=["all"] + STAGES, default="all")
    p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    p.add_argument("--seed", type=int, default=20)
    p.add_argument("--pictures", type=int, default=20000)
    p.add_argument("--latents", type=int, default=20000, help="how many of the pictures the UNets learn from")
    p.add_argument("--batch", type=int, default=32, help="of the UNets")
    p.add_argument("--vae-steps", type=int, default=3300)
    p.add_argument("--decoder-steps", type=int, default=0)
    p.add_argument("--text-steps", type=int, default=600)
    p.add_argument("--unet-steps", type=int, default=3450)
    p.add_argument("--inpaint-steps", type=int, default=300)
    p.add_argument("--workers", type=int, default=1, help="processes that share each batch; on a busy CPU they beat threads")
    p.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    p.add_argument("--preview", type=int, default=1000, help="steps between sheets of generated pictures in --work")
    p.add_argument("--on", action="store_true", help="start from the weights in --out, not from nothing")
    p.add_argument("--minutes", type=float, default=1e9, help="end each stage after so long, its learning rate included, if its steps don't end it sooner")
    p.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)), help="folder of standard/ and inpainting/")
    args = p.parse_args()
    os.makedirs(args.work, exist_ok=True)
    torch.set_num_threads(max(1, os.cpu_count() // args.workers))
    others = [subprocess.Popen([sys.executable, *sys.argv, "--rank", str(i)]) for i in range(1, args.workers) if args.rank == 0]
    common.join_workers(args)
    if args.workers > 1 and args.rank == 0:
        pictures.load(args.work, args.pictures, common.progress)  # rendered by one, for all
    common.all_done()
    for stage in STAGES if args.stage == "all" else [args.stage]:
        if args.rank == 0 or stage in SHARED:
            importlib.import_module("stage_" + stage).train(args)
        common.all_done()
    for other in others:
        other.wait()


if __name__ == "__main__":
    main()
