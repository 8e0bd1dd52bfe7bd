"""The standard UNet: v-prediction on cached latents, captions drawn anew each time, min-SNR weights, averaged weights."""
import os

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image

import captions
import nets
import pictures
import stage_text
import stage_vae
import tokenizer
from common import Trainer, all_done, autocast, progress, seed_all, to_tensor, warm, workers


def weights_of(alphas, t):
    """min(SNR, 5) / (SNR + 1): what min-SNR-5 comes to when the network predicts v."""
    snr = alphas[t] / (1 - alphas[t])
    return snr.clamp(max=5) / (snr + 1)


def diffusion_loss(unet, z, states, alphas, extra=None):
    """The weighted error of v at times spread evenly over the batch."""
    n = len(z)
    t = ((torch.arange(n) + torch.rand(n)) * (1000 / n)).long().clamp(max=999).to(z.device)
    a = alphas[t].view(-1, 1, 1, 1)
    noise = torch.randn(z.shape).to(z.device)
    noisy = a.sqrt() * z + (1 - a).sqrt() * noise
    with autocast(z.device.type):
        out = unet(noisy if extra is None else torch.cat([noisy, extra], 1), t, states).sample
    error = ((out.float() - (a.sqrt() * noise - (1 - a).sqrt() * z)) ** 2).mean((1, 2, 3))
    return (weights_of(alphas, t) * error).mean()


def quick(args, unet):
    """Plain attention where that is faster to train: on a CPU the fused kernels' backward pass is slow."""
    if args.device == "cpu":
        unet.set_attn_processor(AttnProcessor())
    return unet


@torch.no_grad()
def moved(args, unet, z):
    """An earlier UNet, which knows the latents of the VAE in --out, at home in the latents `z` of the new VAE.

    Least squares find the old ones as A z + b and the new ones as B of the old + c; A goes into the first convolution,
    B into the last. b and c fade with the noise level, which a bias cannot follow: it gets their share in the middle.
    """
    images, _ = pictures.load(args.work, args.pictures, progress)
    vae = AutoencoderKL.from_pretrained(os.path.join(args.out, "standard", "vae"))
    old = torch.cat([vae.encode(to_tensor(images[i:i + 20])).latent_dist.mean for i in range(0, 200, 20)]) * vae.config.scaling_factor
    flat = lambda x: x.permute(0, 2, 3, 1).reshape(-1, 4).double()

    def fit(x, y):
        both = torch.linalg.lstsq(torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1), y).solution
        return both[:4].T, both[4]

    (a, b), (back, c) = fit(flat(z[:200]), flat(old)), fit(flat(old), flat(z[:200]))
    first, last = unet.conv_in, unet.conv_out
    w, v = first.weight.double(), last.weight.double()
    first.bias += (.6 * torch.einsum("oiyx,i->o", w, b)).float()
    first.weight.copy_(torch.einsum("oiyx,ij->ojyx", w, a))
    last.weight.copy_(torch.einsum("ij,jcyx->icyx", back, v))
    last.bias.copy_(back @ last.bias.double() - .6 * c)
    return unet


class Texts:
    """Encoded captions of attributes."""

    def __init__(self, args, attrs):
        self.attrs, self.device = attrs, args.device
        self.tok, self.text = stage_text.load(args)

    @torch.no_grad()
    def __call__(self, pick, rng):
        ids = tokenizer.encode(self.tok, [captions.caption(self.attrs[i], rng) for i in pick]).to(self.device)
        with autocast(self.device):
            return self.text(ids).last_hidden_state.float()


def pipeline(args, unet, scale):
    vae = stage_vae.load(args)
    vae.register_to_config(scaling_factor=scale)
    tok, text = stage_text.load(args)
    pipe = StableDiffusionPipeline(vae=vae, text_encoder=text, tokenizer=tok, unet=unet, scheduler=nets.scheduler(),
                                   safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def grid(images, columns):
    rows = [np.concatenate(images[i:i + columns], 1) for i in range(0, len(images), columns)]
    return Image.fromarray(np.concatenate(rows))


def preview(args, unet, scale, path, count=32):
    """Generated pictures for fixed prompts, to be looked at."""
    _, attrs = pictures.held_out(count)
    prompts = [captions.caption(a, np.random.default_rng(i), 1) for i, a in enumerate(attrs)]
    with autocast(args.device):
        made = pipeline(args, unet, scale)(prompts, height=128, width=128, num_inference_steps=25, guidance_scale=3.0,
                                           generator=torch.Generator().manual_seed(1), output_type="np").images
    grid([(m * 255).astype(np.uint8) for m in made], 8).save(path)
    return path


def train(args):
    seed_all(args.seed + 2)
    _, attrs = pictures.load(args.work, args.pictures, progress)
    cache = torch.load(os.path.join(args.work, "latents.pt"))
    z, texts = cache["latents"], Texts(args, attrs)
    unet = quick(args, warm(args, nets.unet(), "standard", "unet"))
    if args.on and not os.path.exists(os.path.join(args.work, "unet.pt")):
        unet = moved(args, unet, z)
    alphas = nets.scheduler().alphas_cumprod.to(args.device)
    all_done()  # nobody saves before all have looked
    t = Trainer("unet", args, {"unet": unet}, lr=7e-4, steps=args.unet_steps, ema="unet")

    def loss(rng, step):
        pick = rng.integers(0, len(z), args.batch // workers()[1])
        return diffusion_loss(unet, z[pick].to(args.device), texts(pick, rng), alphas)

    def report(step):
        with t.averaged() as mean:
            return preview(args, mean, cache["scale"], os.path.join(args.work, f"unet_{step:06d}.png"))

    t.run(loss, report, every=args.preview)
    return t
