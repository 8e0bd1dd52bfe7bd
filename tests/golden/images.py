"""Records what diffusers makes of a caller's own pictures: inpainting as a whole pipeline, with models of nine and of four
channels, and DDIM inversion.

The pipelines draw the picture's latent from its posterior; here they take the posterior's mode, as this library does, for a
drawn one changes from run to run (and, between the frames of a transition, flickers).
"""
import numpy as np
import torch
from diffusers import DDIMInverseScheduler, StableDiffusionInpaintPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

import networks
from common import TINY, randn, relative, save, spread
from sampling import NEGATIVE, PROMPT, VAE_SCALE, ddim

WIDTH, HEIGHT = 80, 64
SEED = 62  # of torch's CPU generator
STEPS = 10
GUIDANCE = 2.0


def picture():
    """Smooth, with some grain; 8 bits, (height, width, 3)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / 64
    grain = randn(61, HEIGHT, WIDTH, 3).numpy()
    colours = np.stack([0.2 + 0.6 * x, 0.7 - 0.5 * y, 0.5 + 0.3 * np.sin(6 * x + 3 * y)], -1) + 0.05 * grain
    return (colours.clip(0, 1) * 255).round().astype(np.uint8)


def mask():
    """A soft ellipse whose edge crosses latent cells; 8 bits, (height, width)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    away = np.hypot((x - 43) / 22, (y - 29) / 17)
    return ((1.3 - away).clip(0, 0.6) / 0.6 * 255).round().astype(np.uint8)


def record_inpainting(kind, prediction):
    pipe = StableDiffusionInpaintPipeline.from_pretrained(TINY / kind, torch_dtype=torch.float32, safety_checker=None)
    pipe.scheduler = ddim(prediction)
    pipe.set_progress_bar_config(disable=True)
    noise = randn(SEED, 1, 4, HEIGHT // 8, WIDTH // 8)
    given = dict(prompt=PROMPT, negative_prompt=NEGATIVE, num_inference_steps=STEPS, guidance_scale=GUIDANCE, strength=1.0,
                 width=WIDTH, height=HEIGHT, image=Image.fromarray(picture()), mask_image=Image.fromarray(mask()))
    final = pipe(latents=noise, output_type="latent", **given).images
    exact = StableDiffusionInpaintPipeline.from_pretrained(TINY / kind, torch_dtype=torch.float64, safety_checker=None)
    exact.scheduler = ddim(prediction)
    exact.set_progress_bar_config(disable=True)
    high = exact(latents=noise.double(), output_type="latent", **given).images
    image = pipe.image_processor.preprocess(given["image"], height=HEIGHT, width=WIDTH)
    hole = pipe.mask_processor.preprocess(given["mask_image"], height=HEIGHT, width=WIDTH)
    small, masked = pipe.prepare_mask_latents(hole, image * (hole < 0.5), 1, HEIGHT, WIDTH, torch.float32, "cpu", None, False)
    clean = networks.vae().encode(image).latent_dist.mean * VAE_SCALE
    print(f"  {kind} final: std {final.std():.3f}")
    return {f"{kind}.final": final, f"{kind}.mask": small, f"{kind}.masked": masked, f"{kind}.clean": clean}, relative(final, high)


def record_inversion(kind, prediction):
    inverse = DDIMInverseScheduler.from_config(ddim(prediction).config)
    assert isinstance(inverse, DDIMInverseScheduler) and inverse.config.prediction_type == prediction
    inverse.set_timesteps(STEPS)
    context = networks.contexts([PROMPT])

    image = torch.from_numpy(picture()).float().permute(2, 0, 1)[None] / 127.5 - 1
    x = networks.vae().encode(image).latent_dist.mean * VAE_SCALE
    unet, high, path, worst = networks.unet(kind), networks.unet(kind, torch.float64), [x], 0.0
    for t in inverse.timesteps:
        given = x
        x = inverse.step(unet(given, t, encoder_hidden_states=context).sample, t, given).prev_sample
        exact = high(given.double(), t, encoder_hidden_states=context.double()).sample
        worst = max(worst, relative(x, inverse.step(exact, t, given.double()).prev_sample))
        path.append(x)
    path = torch.cat(path)
    spread(f"{kind} inverted", path[-1])
    return {f"{kind}.inverted": path, f"{kind}.inverse_timesteps": inverse.timesteps}, worst


def record():
    drawn = DiagonalGaussianDistribution.sample
    DiagonalGaussianDistribution.sample = lambda self, generator=None: self.mode()
    try:
        tensors = {"picture": torch.from_numpy(picture()), "mask": torch.from_numpy(mask())}
        errors = {}
        for kind, prediction in (("inpainting", "epsilon"), ("base", "epsilon")):
            found, errors[kind] = record_inpainting(kind, prediction)
            tensors |= found
        for kind, prediction in (("base", "epsilon"), ("v", "v_prediction")):
            found, errors[f"{kind}.inverted"] = record_inversion(kind, prediction)
            tensors |= found
    finally:
        DiagonalGaussianDistribution.sample = drawn
    print({name: f"{error:.1e}" for name, error in errors.items()})
    save("images", tensors, prompt=PROMPT, negative=NEGATIVE, seed=SEED, steps=STEPS, guidance=GUIDANCE,
         f32_error=max(errors.values()))
