"""The demo model in diffusers: what its two pipelines make of a few prompts, so that the library's pictures can be compared.

To be run again whenever the weights in models/demo change: `python tests/golden/record.py demo`. Both folders open unchanged
with from_pretrained; the noise is PyTorch's CUDA noise of the seed, and guidance, steps and negative prompt stand in the file.
"""
import numpy as np
import torch
from diffusers import StableDiffusionInpaintPipeline, StableDiffusionPipeline
from PIL import Image

from common import HERE, save
from philox_numpy import normals

DEMO = HERE.parent.parent / "models" / "demo"
CASES = [  # prompt, negative prompt, seed, guidance, steps, width, height
    ("a photo of a mountain lake at dawn", "", 420, 4.0, 20, 128, 128),
    ("a lighthouse by the sea at night, with stars", "rain", 69731932, 7.5, 20, 128, 128),
    ("a poster of a hot air balloon", "", 7, 1.0, 12, 160, 96),
]


def noise(seed, width, height):
    shape = (1, 4, height // 8, width // 8)
    return torch.from_numpy(normals(seed, np.arange(np.prod(shape)))).float().reshape(shape)


def run(pipeline, prompt, negative, seed, guidance, steps, width, height, **more):
    common = dict(prompt=prompt, negative_prompt=negative, num_inference_steps=steps, guidance_scale=guidance,
                  width=width, height=height, latents=noise(seed, width, height), **more)
    latents = pipeline(output_type="latent", **common).images
    with torch.no_grad():
        decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    return latents[0], decoded[0]


def record():
    tensors = {}
    pipeline = StableDiffusionPipeline.from_pretrained(DEMO / "standard", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    for index, case in enumerate(CASES):
        latents, decoded = run(pipeline, *case)
        tensors |= {f"standard.{index}.latents": latents}
        if index == 1:
            tensors[f"standard.{index}.decoded"] = decoded
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(DEMO / "inpainting", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    prompt, negative, seed, guidance, steps, width, height = CASES[1]
    # A grey picture, all of it to be painted; the latents of the masked picture are given, for the pipeline would draw them.
    grey = torch.zeros(1, 3, height, width)
    with torch.no_grad():
        masked = pipeline.vae.encode(grey).latent_dist.mode() * pipeline.vae.config.scaling_factor
    latents, _ = run(pipeline, prompt, negative, seed, guidance, steps, width, height, strength=1.0,
                     image=Image.new("RGB", (width, height), (128, 128, 128)), mask_image=Image.new("L", (width, height), 255),
                     masked_image_latents=masked)
    tensors["inpainting.latents"] = latents
    meta = {f"case{i}": "|".join(map(str, case)) for i, case in enumerate(CASES)}
    save("demo", tensors, **meta)
