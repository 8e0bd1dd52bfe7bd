"""The KL autoencoder: first on crops, which cost a quarter, then on whole pictures.

The second part matters: group norm and the middle's attention see other statistics on a whole picture.
"""
import os

import numpy as np
import torch
import torch.nn.functional as F

import nets
import pictures
from common import Trainer, autocast, progress, seed_all, to_tensor, warm, workers

WHOLE_FROM = 0.5  # part of the course that is spent on crops


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


def opponent(d):
    """Red against green, and both against blue: what is left of a colour without its brightness."""
    r, g, b = d.unbind(1)
    return torch.stack([r - g, (r + g) / 2 - b], 1)


def loss_of_pair(x, y):
    """Squares for PSNR, edges and coarse shapes so that nothing goes soft, and hues on their own.

    Hues make up little of the squares: without a weight of their own, one of the two is soon left out of the latents.
    """
    d = y - x
    edges = sum((a - b).abs().mean() for a, b in zip(steps_of(x), steps_of(y)))
    hue = opponent(F.avg_pool2d(d, 2))
    return (4 * (d ** 2).mean() + .25 * d.abs().mean() + .25 * edges + .5 * F.avg_pool2d(d, 4).abs().mean()
            + 2 * (hue ** 2).mean() + .5 * hue.abs().mean())


def train(args):
    seed_all(args.seed)
    vae = warm(args, nets.vae(), "standard", "vae")
    fit(args, Trainer("vae", args, {"vae": vae}, lr=1.0e-3, steps=args.vae_steps, ema="vae", weight_decay=1e-4, hold=.995), vae, WHOLE_FROM)
    if workers()[0] == 0:
        load(args)


def train_decoder(args):
    """Goes on with the decoder alone: latents, and all UNets trained on them, stay as they are."""
    seed_all(args.seed + 4)
    vae = load(args)
    for part in (vae.decoder, vae.post_quant_conv):
        part.requires_grad_(True)
    fit(args, Trainer("decoder", args, {"vae": vae}, lr=6e-4, steps=args.decoder_steps, ema="vae", weight_decay=1e-4, hold=.995), vae, .4)


def fit(args, trainer, vae, whole_from):
    images, _ = pictures.load(args.work, args.pictures, progress)
    held = pictures.held_out(24)[0] if workers()[0] == 0 else None
    share = workers()[1]

    def loss(rng, step):
        if trainer.part() < whole_from:
            at = rng.integers(0, 65, (16 // share, 2))
            pick = rng.integers(0, len(images), 16 // share)
            part = np.stack([images[i, y:y + 64, x:x + 64] for i, (y, x) in zip(pick, at)])
        else:
            part = images[np.sort(rng.integers(0, len(images), 4 // share))]
        if rng.random() < .5:
            part = part[:, :, ::-1]
        x = to_tensor(part, args.device)
        with autocast(args.device):
            dist = vae.encode(x).latent_dist
            y = vae.decode(dist.sample()).sample
        return loss_of_pair(x, y.float()) + 2e-4 * (dist.kl().float() / dist.mean[0].numel()).mean()

    def report(step):
        with trainer.averaged() as mean:
            return f"psnr {psnr(mean, held, args.device):.2f}"

    trainer.run(loss, report, every=200)


@torch.no_grad()
def evened(vae, images):
    """Turns the latents' basis so that all channels vary alike and on their own.

    A diffusion model hears little of a channel that varies less than the noise beside it; colours are often there. The
    1x1 convolutions on both sides of the latents take the change and its inverse, so the pictures stay the same.
    """
    z = torch.cat([vae.encode(to_tensor(images[i:i + 20])).latent_dist.mean for i in range(0, len(images), 20)])
    z = z.permute(1, 0, 2, 3).flatten(1).double()
    mean = z.mean(1)
    power, axes = torch.linalg.eigh(torch.cov(z))
    turn = axes @ torch.diag(power ** -.5) @ axes.T
    back = torch.linalg.inv(turn)
    into, out = vae.quant_conv, vae.post_quant_conv
    w, b, p = into.weight[:4, :, 0, 0].double(), into.bias[:4].double(), out.weight[:, :, 0, 0].double()
    into.weight[:4, :, 0, 0], into.bias[:4] = (turn @ w).float(), (turn @ (b - mean)).float()
    into.bias[4:] += 2 * turn.diagonal().log().float()  # the spread of the posterior follows
    out.weight[:, :, 0, 0], out.bias[:] = (p @ back).float(), (out.bias.double() + p @ mean).float()
    return vae


def load(args):
    vae = nets.vae()
    even, path = os.path.join(args.work, "even.pt"), os.path.join(args.work, "vae.pt")
    if args.on and not os.path.exists(path):  # kept, for its latents are even already
        vae = warm(args, vae, "standard", "vae")
    else:
        if not os.path.exists(even):
            images, _ = pictures.load(args.work, args.pictures, progress)
            vae.load_state_dict(torch.load(path, map_location="cpu")["average"])
            torch.save(evened(vae.eval(), images[:400]).state_dict(), even + str(workers()[0]))
            os.replace(even + str(workers()[0]), even)
        vae.load_state_dict(torch.load(even))
    decoder = os.path.join(args.work, "decoder.pt")
    if os.path.exists(decoder):
        vae.load_state_dict(torch.load(decoder, map_location="cpu")["average"])
    return vae.to(args.device).eval().requires_grad_(False)
