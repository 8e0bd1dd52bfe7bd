"""Records guidance that isn't constant: rescaled (`rescale_noise_cfg` of diffusers), and of another scale at each step.

The rescaled runs, with DDIM and with DPM-Solver++(2M), are compared with the released pipeline's own.
"""
import torch
from diffusers import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

import networks
from common import TINY, randn, relative, save
from sampling import NEGATIVE, PROMPT, ddim
from solver import solver

STEPS, GUIDANCE, RESCALE = 20, 7.5, 0.7


def run(unet, scheduler, noise, context, scales, rescale):
    scheduler.set_timesteps(STEPS)
    x = noise
    for t, g in zip(scheduler.timesteps, scales):
        negative, positive = unet(x.expand(2, -1, -1, -1), t, encoder_hidden_states=context).sample.chunk(2)
        out = negative + g * (positive - negative)
        if rescale > 0 and g != 1:
            out = rescale_noise_cfg(out, positive, guidance_rescale=rescale)
        x = scheduler.step(out, t, x).prev_sample
    return x


def record():
    context = networks.contexts([NEGATIVE, PROMPT])
    noise = randn(611, 1, 4, 8, 8)
    tensors = {"context": context, "noise": noise}
    constant = [GUIDANCE] * STEPS
    # 1 at the first step, 0.25 at the last, in a straight line; and off from step 12 on.
    falling = [1 + (GUIDANCE - 1) * (1 - 0.75 * k / (STEPS - 1)) for k in range(STEPS)]
    off = [GUIDANCE if k < 12 else 1.0 for k in range(STEPS)]
    for kind, prediction in (("base", "epsilon"), ("v", "v_prediction")):
        unet = networks.unet(kind)
        for name, scales, rescale in (("rescaled", constant, RESCALE), ("falling", falling, 0.0), ("off", off, 0.0),
                                      ("all", [1 + (g - 1) * (k < 12) for k, g in enumerate(falling)], RESCALE)):
            tensors[f"{kind}.{name}"] = run(unet, ddim(prediction), noise, context, scales, rescale)
        tensors[f"{kind}.solver"] = run(unet, solver(prediction), noise, context, constant, RESCALE)
        pipe = StableDiffusionPipeline.from_pretrained(TINY / kind, dtype=torch.float32, safety_checker=None)
        pipe.set_progress_bar_config(disable=True)
        for name, scheduler in (("rescaled", ddim(prediction)), ("solver", solver(prediction))):
            pipe.scheduler = scheduler
            out = pipe(prompt_embeds=context[1:], negative_prompt_embeds=context[:1], num_inference_steps=STEPS, height=64,
                       width=64, guidance_scale=GUIDANCE, guidance_rescale=RESCALE, latents=noise, output_type="latent").images
            assert relative(tensors[f"{kind}.{name}"], out) < 1e-6, relative(tensors[f"{kind}.{name}"], out)
    save("guidance", tensors)
