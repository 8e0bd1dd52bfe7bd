"""Records DPM-Solver++(2M): diffusers' schedules for it as numbers, and whole guided trajectories on the tiny checkpoints.

The scheduler has its defaults (dpmsolver++, second order, midpoint, lower order at the end, no noise at the end) and Stable
Diffusion 2's betas and offset. It computes in f32; how far that is from f64 is told by a loop of our own, which also says
where a mixture of Gaussians is led (mixture.py).
"""
import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

import networks
from checkpoints import SCHEDULER
from common import TINY, randn, relative, save
from sampling import COUNTS, NEGATIVE, PROMPT, ddim, sample

NUMBERS = {k: v for k, v in SCHEDULER.items() if k in ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "steps_offset")}
ABAR = ddim().alphas_cumprod.double().numpy()


def solver(prediction="epsilon", spacing="leading"):
    return DPMSolverMultistepScheduler(**NUMBERS, prediction_type=prediction, timestep_spacing=spacing)


def record_schedules():
    tensors = {}
    for spacing in ("leading", "trailing", "linspace"):
        for n in COUNTS:
            scheduler = solver(spacing=spacing)
            scheduler.set_timesteps(n)
            t, sigmas = scheduler.timesteps, scheduler.sigmas.double()
            if len(t) != n or t[0] > 999:  # trailing may round to another number; leading with 999 steps leaves the table
                print(f"  {spacing} {n}: {len(t)} steps from timestep {t[0]}, left out")
                continue
            abar = 1 / (1 + sigmas ** 2)
            tensors |= {f"{spacing}.{n}.timesteps": t, f"{spacing}.{n}.a_t": abar[:-1], f"{spacing}.{n}.a_prev": abar[1:]}
    save("solver_schedules", tensors)


def second_order(clean, x, abar):
    """x after each step, in the precision of x: `clean(x, k)` predicts the clean latent, abar are N signal shares and the end's."""
    out, before = [], None
    half_log_snr = lambda a: 0.5 * np.log(a / (1 - a))
    for k in range(len(abar) - 1):
        a, b = abar[k], abar[k + 1]
        now = clean(x, k)
        guess = now
        if before is not None and b < 1:
            ratio = (half_log_snr(a) - half_log_snr(abar[k - 1])) / (half_log_snr(b) - half_log_snr(a))
            guess = now + (now - before) / (2 * ratio)
        shrink = np.sqrt((1 - b) / (1 - a))
        x = shrink * x + (np.sqrt(b) - np.sqrt(a) * shrink) * guess
        before = now
        out.append(x)
    return out


def exact(kind, prediction, n, noise, guidance, context):
    unet, scheduler = networks.unet(kind, torch.float64), solver(prediction)
    scheduler.set_timesteps(n)
    t, context = scheduler.timesteps.tolist(), context.double()
    abar = [float(ABAR[k]) for k in t] + [1.0]

    def clean(x, k):
        negative, positive = unet(torch.cat([x, x]), t[k], encoder_hidden_states=context).sample.chunk(2)
        out, a = negative + guidance * (positive - negative), abar[k]
        return (x - (1 - a) ** 0.5 * out) / a ** 0.5 if prediction == "epsilon" else a ** 0.5 * x - (1 - a) ** 0.5 * out

    return second_order(clean, noise.double(), abar)[-1]


def record_guided(kind, prediction, seed):
    context = networks.contexts([NEGATIVE, PROMPT])
    tensors, worst, guidance = {"context": context, "guidance": torch.tensor(4.0)}, 0.0, 4.0
    for n in (1, 2, 3, 10, 14, 15, 20, 50):
        noise = randn(seed + n, 1, 4, 8, 8)
        steps = sample(networks.unet(kind), solver(prediction), n, noise, guidance, context)
        error = relative(steps[-1:], exact(kind, prediction, n, noise, guidance, context))
        worst = max(worst, error)
        tensors |= {f"n{n}.noise": noise, f"n{n}.final": steps[-1:]} | ({f"n{n}.steps": steps} if n == 20 else {})
        print(f"  {kind}, {n} steps: final std {steps[-1].std():.3f}, f32 against f64 {error:.1e}")
    pipe = StableDiffusionPipeline.from_pretrained(TINY / kind, dtype=torch.float32, safety_checker=None)
    pipe.scheduler = solver(prediction)
    pipe.set_progress_bar_config(disable=True)
    out = pipe(prompt_embeds=context[1:], negative_prompt_embeds=context[:1], num_inference_steps=20, guidance_scale=guidance,
               latents=tensors["n20.noise"], height=64, width=64, output_type="latent").images
    assert relative(tensors["n20.final"], out) < 1e-6
    save(f"solver_{kind}", tensors, prompt=PROMPT, negative=NEGATIVE, f32_error=worst)


def record():
    record_schedules()
    record_guided("base", "epsilon", 510)
    record_guided("v", "v_prediction", 520)
