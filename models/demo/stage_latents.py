"""Encodes all pictures once; also pictures with holes, for the inpainting model."""
import os

import numpy as np
import torch

import pictures
import stage_vae
from common import all_done, autocast, in_parts, progress, to_tensor, workers

HOLES = 6000  # pictures that also get a mask


def mask(rng, size=128):
    """1 where the picture is to be painted anew: boxes, ellipses, brush strokes, a half or, at times, all of it."""
    m = np.zeros((size, size), np.float32)
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    kind = rng.random()
    if kind < .12:
        return m + 1
    if kind < .27:
        side = rng.integers(4)
        return (np.stack([x, 1 - x, y, 1 - y])[side] < rng.uniform(.3, .7)).astype(np.float32)
    for _ in range(rng.integers(1, 4)):
        cx, cy, rx, ry = *rng.uniform(.1, .9, 2), *rng.uniform(.1, .35, 2)
        if kind < .5:
            m[(np.abs(x - cx) < rx) & (np.abs(y - cy) < ry)] = 1
        elif kind < .75:
            m[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1] = 1
        else:
            a, w = rng.uniform(0, 2 * np.pi), rng.uniform(.06, .13)
            for s in np.linspace(0, rng.uniform(.3, .8), 12):
                a += rng.uniform(-.4, .4)
                m[(x - cx - s * np.cos(a)) ** 2 + (y - cy - s * np.sin(a)) ** 2 < w * w] = 1
    return m


@torch.no_grad()
def encode(vae, x, device):
    with autocast(device):
        return vae.encode(x).latent_dist.mean.float().cpu()


def train(args):
    path = os.path.join(args.work, "latents.pt")
    found = os.path.exists(path)
    all_done()
    if found:
        return
    images, _ = pictures.load(args.work, args.pictures, progress)
    vae = stage_vae.load(args)
    whole = torch.cat(in_parts(args.latents, 50, lambda i, j: encode(vae, to_tensor(images[i:j], args.device), args.device)))
    scale = 1 / whole[::7].std().item()
    if workers()[0] > 0:
        return
    torch.save({"latents": whole * scale, "scale": scale}, path)
    print("scaling factor", scale, "channel means", (whole * scale).mean((0, 2, 3)).tolist(),
          "deviations", (whole * scale).std((0, 2, 3)).tolist())


def holes(args, scale):
    """(masks [n, 1, 16, 16], latents of the pictures with the hole grey) of the first pictures."""
    path = os.path.join(args.work, "holes.pt")
    found = os.path.exists(path)
    all_done()
    if not found:
        images, _ = pictures.load(args.work, args.pictures, progress)
        vae = stage_vae.load(args)

        def part(i, j):
            m = torch.from_numpy(np.stack([mask(np.random.default_rng([args.seed, 5, k])) for k in range(i, j)]))[:, None]
            x = to_tensor(images[i:j], args.device) * (m < .5).to(args.device)
            return m[:, :, ::8, ::8], encode(vae, x, args.device) * scale

        parts = in_parts(min(HOLES, args.latents), 50, part)
        if workers()[0] == 0:
            torch.save({"masks": torch.cat([p[0] for p in parts]), "kept": torch.cat([p[1] for p in parts])}, path)
        all_done()
    both = torch.load(path)
    return both["masks"], both["kept"]
