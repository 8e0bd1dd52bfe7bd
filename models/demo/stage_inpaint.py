"""The inpainting UNet: starts as the standard one, its first convolution widened by mask and masked picture."""
import os

import torch

import nets
import pictures
import stage_latents
from common import Trainer, progress, seed_all, workers
from stage_unet import Texts, diffusion_loss, quick


def widened(state):
    """The standard UNet's weights with zeros for the five new input channels."""
    w = state["conv_in.weight"]
    return {**state, "conv_in.weight": torch.cat([w, torch.zeros(w.shape[0], 5, 3, 3, device=w.device)], 1)}


def train(args):
    seed_all(args.seed + 3)
    _, attrs = pictures.load(args.work, args.pictures, progress)
    cache = torch.load(os.path.join(args.work, "latents.pt"))
    masks, kept = stage_latents.holes(args, cache["scale"])
    z, texts = cache["latents"][:len(masks)], Texts(args, attrs)
    unet = quick(args, nets.unet(9).to(args.device))
    unet.load_state_dict(widened(torch.load(os.path.join(args.work, "unet.pt"), map_location="cpu")["average"]))
    alphas = nets.scheduler().alphas_cumprod.to(args.device)
    t = Trainer("inpaint", args, {"unet": unet}, lr=3e-4, steps=args.inpaint_steps, ema="unet")

    def loss(rng, step):
        pick = rng.integers(0, len(z), args.batch // workers()[1])
        extra = torch.cat([masks[pick], kept[pick]], 1).to(args.device)
        return diffusion_loss(unet, z[pick].to(args.device), texts(pick, rng), alphas, extra)

    t.run(loss)
    return t
