"""Measures the exported model: `python evaluate.py --work DIR`. Prints the figures of README.md, writes sheet.png.

The classifier is trained on rendered pictures at the first call and kept in --work.
"""
import argparse
import json
import os

import numpy as np
import torch
from diffusers import StableDiffusionInpaintPipeline, StableDiffusionPipeline
from PIL import Image

import captions
import classifier
import pictures
import stage_vae
from common import progress, to_tensor
from stage_unet import grid

HERE = os.path.dirname(os.path.abspath(__file__))
HELD_FROM = 1000  # held-out pictures before this one are looked at while training


def prompts_for(attrs):
    """Prompts that state every attribute, and what they state."""
    made = [captions.caption_and_said(a, np.random.default_rng([3, i]), 1) for i, a in enumerate(attrs)]
    return [m[0] for m in made], [{k: a[k] for k in m[1]} for m, a in zip(made, attrs)]


def generate(pipe, prompts, args):
    out = []
    for i in progress(range(0, len(prompts), 50), desc="generating"):
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            out.append(pipe(prompts[i:i + 50], height=128, width=128, num_inference_steps=args.steps, guidance_scale=args.guidance,
                            generator=torch.Generator().manual_seed(args.seed + i), output_type="np").images)
    return (np.concatenate(out) * 255).round().astype(np.uint8)


def reconstructed(vae, images):
    with torch.no_grad():
        y = [vae.decode(vae.encode(to_tensor(images[i:i + 16])).latent_dist.mean).sample for i in range(0, len(images), 16)]
    return ((torch.cat(y).clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def inpainting(images, attrs):
    """Mean error outside and inside a repainted middle, and the pictures."""
    pipe = StableDiffusionInpaintPipeline.from_pretrained(os.path.join(HERE, "inpainting"))
    pipe.set_progress_bar_config(disable=True)
    prompts, _ = prompts_for(attrs)
    mask = np.zeros((128, 128), np.uint8)
    mask[32:112, 32:96] = 255
    made = pipe(prompts, image=[Image.fromarray(i) for i in images], mask_image=[Image.fromarray(mask)] * len(images), height=128,
                width=128, num_inference_steps=25, guidance_scale=2.0, generator=torch.Generator().manual_seed(5), output_type="np").images
    made = (made * 255).round().astype(np.uint8)
    error = np.abs(made.astype(float) - images).mean((0, 3))
    return error[mask == 0].mean(), error[mask > 0].mean(), made


def standard(images, attrs, args):
    """The figures of the autoencoder and of the standard model; writes the sheet."""
    net = classifier.train(args)
    pipe = StableDiffusionPipeline.from_pretrained(os.path.join(HERE, "standard"))
    pipe.set_progress_bar_config(disable=True)
    psnr = stage_vae.psnr(pipe.vae, images[:200], "cpu")
    print(f"VAE PSNR on 200 held-out pictures: {psnr:.2f} dB\n", flush=True)
    prompts, asked = prompts_for(attrs)
    made = generate(pipe, prompts, args)
    gap = np.full((128, 16, 3), 255, np.uint8)
    rows = [np.concatenate([*made[i:i + 8], gap, *images[i:i + 8]], 1) for i in range(0, 64, 8)]
    sheet = Image.fromarray(np.concatenate(rows))
    sheet.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(os.path.join(HERE, "sheet.png"), optimize=True)
    tables = {"rendered": classifier.agreement(net, images, asked),
              "through_vae": classifier.agreement(net, reconstructed(pipe.vae, images[:200]), asked[:200]),
              "generated": classifier.agreement(net, made, asked)}
    print("| attribute | rendered | through the VAE | generated | asked |\n| --- | --- | --- | --- | --- |")
    for name in tables["generated"]:
        print(f"| {name} | " + " | ".join(f"{100 * tables[k][name][0]:.1f} %" for k in tables) + f" | {tables['generated'][name][1]} |")
    totals = {k: classifier.total(t) for k, t in tables.items()}
    print("| all | " + " | ".join(f"{100 * v:.1f} %" for v in totals.values()) + " | |\n")
    return {"vae_psnr": psnr, "agreement": totals, "tables": tables}


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--work", required=True)
    p.add_argument("--device", default="cpu", help="of the classifier's training")
    p.add_argument("--seed", type=int, default=20)
    p.add_argument("--pictures", type=int, default=20000)
    p.add_argument("--classifier-steps", type=int, default=600)
    p.add_argument("--minutes", type=float, default=1e9, help="at most, of the classifier's training")
    p.add_argument("--count", type=int, default=500)
    p.add_argument("--steps", type=int, default=30)
    p.add_argument("--bf16", action="store_true", help="generate in bfloat16, twice as fast where the processor has it")
    p.add_argument("--part", choices=["all", "standard", "inpainting"], default="all")
    p.add_argument("--guidance", type=float, default=3.0)
    args = p.parse_args()
    torch.set_num_threads(os.cpu_count())

    path = os.path.join(args.work, "figures.json")
    result = json.load(open(path)) if os.path.exists(path) else {}
    images, attrs = pictures.held_out(args.count if args.part != "inpainting" else 16, HELD_FROM)
    if args.part != "inpainting":
        result.update(standard(images, attrs, args))
    if args.part != "standard":
        outside, inside, filled = inpainting(images[:16], attrs[:16])
        result["inpainting_error_outside_inside"] = [outside, inside]
        print(f"inpainting, mean error of 255: outside the mask {outside:.1f}, inside {inside:.1f}")
        grid([*images[:8], *filled[:8], *images[8:16], *filled[8:]], 8).save(os.path.join(args.work, "inpaint.png"))
    json.dump(result, open(path, "w"), indent=1)


if __name__ == "__main__":
    main()
