"""The KL autoencoder: first on crops, which cost a quarter, then on whole pictures.

The second part matters: group norm and the middle's attention see other statistics on a whole picture.
"""
import os

import numpy as np
import torch
import torch.nn.functional as F

import nets
import pictures
from common import Trainer, autocast, progress, seed_all, to_tensor, warm

WHOLE_FROM = 0.65  # part of the steps that is spent on crops


def psnr(vae, images, device, batch=16):
    """Mean over pictures of the PSNR in dB, rounded to 8 bits as a user sees it."""
    out = []
    with torch.no_grad():
        for i in range(0, len(images), batch):
            x = to_tensor(images[i:i + batch], device)
            y = vae.decode(vae.encode(x).latent_dist.mean).sample
            y = ((y.clamp(-1, 1) + 1) * 127.5).round() / 255
            mse = ((y - (x + 1) / 2) ** 2).mean((1, 2, 3))
            out += (-10 * torch.log10(mse)).tolist()
    return float(np.mean(out))


def steps_of(x):
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def loss_of_pair(x, y):
    """Squares for PSNR, plus edges and coarse shapes so that nothing goes soft or changes hue."""
    d = y - x
    edges = sum((a - b).abs().mean() for a, b in zip(steps_of(x), steps_of(y)))
    return 4 * (d ** 2).mean() + .5 * d.abs().mean() + .5 * edges + .5 * F.avg_pool2d(d, 4).abs().mean()


def train(args):
    seed_all(args.seed)
    vae = warm(args, nets.vae(), "standard", "vae")
    fit(args, Trainer("vae", args, {"vae": vae}, lr=1.0e-3, steps=args.vae_steps, weight_decay=1e-4), vae, WHOLE_FROM)


def train_decoder(args):
    """Goes on with the decoder alone: latents, and all UNets trained on them, stay as they are."""
    seed_all(args.seed + 4)
    vae = load(args)
    for part in (vae.decoder, vae.post_quant_conv):
        part.requires_grad_(True)
    fit(args, Trainer("decoder", args, {"vae": vae}, lr=6e-4, steps=args.decoder_steps, weight_decay=1e-4), vae, .4)


def fit(args, trainer, vae, whole_from):
    images, _ = pictures.load(args.work, args.pictures, progress)
    held, _ = pictures.held_out(64)

    def loss(rng, step):
        if step < whole_from * trainer.steps:
            at = rng.integers(0, 65, (16, 2))
            pick = rng.integers(0, len(images), 16)
            part = np.stack([images[i, y:y + 64, x:x + 64] for i, (y, x) in zip(pick, at)])
        else:
            part = images[np.sort(rng.integers(0, len(images), 4))]
        if rng.random() < .5:
            part = part[:, :, ::-1]
        x = to_tensor(part, args.device)
        with autocast(args.device):
            dist = vae.encode(x).latent_dist
            y = vae.decode(dist.sample()).sample
        return loss_of_pair(x, y.float()) + 2e-4 * (dist.kl().float() / dist.mean[0].numel()).mean()

    trainer.run(loss, lambda step: f"psnr {psnr(vae, held, args.device):.2f}")


def load(args):
    vae = nets.vae()
    paths = [os.path.join(args.work, n) for n in ("decoder.pt", "vae.pt")]
    path = next(p for p in paths if os.path.exists(p))
    vae.load_state_dict(torch.load(path, map_location="cpu")["modules"]["vae"])
    return vae.to(args.device).eval().requires_grad_(False)
