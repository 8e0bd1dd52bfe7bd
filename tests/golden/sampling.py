"""Records DDIM: the schedules as numbers, and whole guided trajectories on the tiny checkpoints.

The loop is written out here, over diffusers' scheduler, so that every step can be kept; the released pipeline is run
beside it once for each kind of prediction and has to end at the same latent.
"""
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, StableDiffusionPipeline

import networks
from checkpoints import SCHEDULER
from common import TINY, randn, relative, save, spread

COUNTS = [1, 2, 3, 4, 5, 7, 10, 12, 15, 20, 25, 30, 33, 40, 50, 60, 100, 250, 333, 500, 501, 999]
PROMPT, NEGATIVE = "photo of a bright blue sky with white clouds", "blurry painting, low light"
VAE_SCALE = 0.18215


def ddim(prediction="epsilon", spacing="leading"):
    return DDIMScheduler(**SCHEDULER, prediction_type=prediction, timestep_spacing=spacing)


def record_schedules():
    tensors = {"alphas_cumprod": ddim().alphas_cumprod}
    betas = np.linspace(SCHEDULER["beta_start"] ** 0.5, SCHEDULER["beta_end"] ** 0.5, 1000, dtype=np.float64) ** 2
    tensors["alphas_cumprod_f64"] = np.cumprod(1 - betas)
    for spacing in ("leading", "trailing", "linspace"):
        for n in COUNTS:
            scheduler = ddim(spacing=spacing)
            scheduler.set_timesteps(n)
            t = scheduler.timesteps
            previous = t - 1000 // n
            a_t = scheduler.alphas_cumprod[t]
            a_prev = torch.where(previous >= 0, scheduler.alphas_cumprod[previous.clamp(min=0)], scheduler.final_alpha_cumprod)
            one = torch.ones(1)
            for k in range(n):  # the numbers above against what a step really does: no noise predicted, so x' = sqrt(a_prev/a_t)
                stepped = scheduler.step(torch.zeros(1), t[k], one).prev_sample
                assert abs(stepped.item() / (a_prev[k] / a_t[k]).sqrt().item() - 1) < 1e-6, (spacing, n, k)
            tensors |= {f"{spacing}.{n}.timesteps": t, f"{spacing}.{n}.a_t": a_t, f"{spacing}.{n}.a_prev": a_prev}
    save("schedules", tensors)


def sample(unet, scheduler, n, noise, guidance, context, extra=None):
    """The trajectory: x after every step. context is [negative, prompt], or only [prompt] where guidance is off."""
    scheduler.set_timesteps(n)
    x, steps = noise, []
    for t in scheduler.timesteps:
        given = x if extra is None else torch.cat([x, extra.to(x.dtype)], 1)
        given = given.expand(len(context), -1, -1, -1)
        out = unet(given, t, encoder_hidden_states=context.to(x.dtype)).sample
        if len(context) == 2:
            negative, positive = out.chunk(2)
            out = negative + guidance * (positive - negative)
        x = scheduler.step(out, t, x).prev_sample
        steps.append(x)
    return torch.cat(steps)


def both(kind, prediction, n, noise, guidance, context, extra=None, spacing="leading"):
    """In f32, and how far that is from f64."""
    steps = sample(networks.unet(kind), ddim(prediction, spacing), n, noise, guidance, context, extra)
    exact = sample(networks.unet(kind, torch.float64), ddim(prediction, spacing), n, noise.double(), guidance, context, extra)
    return steps, relative(steps[-1], exact[-1])


def same_as_pipeline(kind, prediction, noise, context, guidance, final):
    pipe = StableDiffusionPipeline.from_pretrained(TINY / kind, dtype=torch.float32, safety_checker=None)
    pipe.scheduler = ddim(prediction)
    pipe.set_progress_bar_config(disable=True)
    out = pipe(prompt_embeds=context[1:], negative_prompt_embeds=context[:1], num_inference_steps=20, guidance_scale=guidance,
               latents=noise, height=64, width=64, output_type="latent").images
    assert relative(final, out) < 1e-6, relative(final, out)


def record_guided(kind, prediction, seed):
    context = networks.contexts([NEGATIVE, PROMPT])
    tensors, worst = {"context": context}, 0.0
    for name, guidance, h, w in (("g4", 4.0, 8, 8), ("g7.5", 7.5, 8, 8), ("odd", 4.0, 9, 13)):
        noise = randn(seed, 1, 4, h, w)
        steps, error = both(kind, prediction, 20, noise, guidance, context)
        worst = max(worst, error)
        tensors |= {f"{name}.noise": noise, f"{name}.guidance": torch.tensor(guidance), f"{name}.steps": steps, f"{name}.final": steps[-1:]}
        print(f"  {kind} {name}: final std {steps[-1].std():.3f}, f32 against f64 {error:.1e}")
    same_as_pipeline(kind, prediction, tensors["g4.noise"], context, 4.0, tensors["g4.final"])
    decoded = networks.vae().decode(tensors["g4.final"] / VAE_SCALE).sample
    spread(f"{kind} decoded", decoded)
    tensors["g4.decoded"] = decoded
    save(f"ddim_{kind}", tensors, prompt=PROMPT, negative=NEGATIVE, f32_error=worst)


def record_inpainting():
    context = networks.contexts([NEGATIVE, PROMPT])
    ramp = torch.linspace(-1, 1, 64)
    image = (0.5 * torch.stack([ramp.expand(64, -1), ramp[:, None].expand(-1, 64), torch.sin(4 * ramp).expand(64, -1)])[None]
             + 0.2 * randn(61, 1, 3, 64, 64)).clamp(-1, 1)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 13:41, 22:59] = 1  # 1: repaint; the edges lie inside latent cells on purpose
    masked = image * (mask < 0.5)
    masked_latents = networks.vae().encode(masked).latent_dist.mean * VAE_SCALE
    small = F.interpolate(mask, size=(8, 8))  # nearest: takes the cell's first pixel
    noise = randn(62, 1, 4, 8, 8)
    steps, error = both("inpainting", "epsilon", 10, noise, 7.5, context, torch.cat([small, masked_latents], 1))
    print(f"  inpainting: final std {steps[-1].std():.3f}, f32 against f64 {error:.1e}")
    save("ddim_inpainting", {"context": context, "image": image, "mask": mask, "masked_image": masked, "mask_latent": small,
                             "masked_latents": masked_latents, "noise": noise, "guidance": torch.tensor(7.5), "steps": steps,
                             "final": steps[-1:]}, prompt=PROMPT, negative=NEGATIVE, f32_error=error)


def record_turbo():
    """Few steps, trailing, no guidance: one UNet call a step, with the prompt alone."""
    context = networks.contexts([PROMPT])
    tensors, worst = {"context": context}, 0.0
    for n in (4, 3, 1):
        noise = randn(70 + n, 1, 4, 8, 8)
        steps, error = both("base", "epsilon", n, noise, 1.0, context, spacing="trailing")
        worst = max(worst, error)
        tensors |= {f"n{n}.noise": noise, f"n{n}.steps": steps, f"n{n}.final": steps[-1:]}
    save("ddim_trailing", tensors, prompt=PROMPT, f32_error=worst)


def record():
    record_schedules()
    record_guided("base", "epsilon", 51)
    record_guided("v", "v_prediction", 52)
    record_inpainting()
    record_turbo()
