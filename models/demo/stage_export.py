"""Writes the diffusers folders standard/ and inpainting/ as f16."""
import json
import os
import shutil
import tempfile

import torch
from safetensors.torch import load_file, save_file

import nets
from stage_unet import pipeline

SHARED = ["vae", "text_encoder", "tokenizer", "scheduler"]


def averaged(args, name, unet):
    unet.load_state_dict(torch.load(os.path.join(args.work, name + ".pt"), map_location="cpu")["average"])
    return unet


def plain_names(folder):
    """The key names and config of SD 2's text encoder, whichever release of transformers wrote the file.

    The config asks for f32, as SD 2's does: else transformers keeps f16 beside a UNet that diffusers opens in f32.
    """
    path = os.path.join(folder, "text_encoder", "model.safetensors")
    state = {k if k.startswith("text_model.") else "text_model." + k: v for k, v in load_file(path).items()}
    save_file({k: v for k, v in state.items() if not k.endswith("position_ids")}, path, {"format": "pt"})
    path = os.path.join(folder, "text_encoder", "config.json")
    config = json.load(open(path))
    config.update(dtype="float32", torch_dtype="float32")
    json.dump(config, open(path, "w"), indent=2)


def put(source, target):
    """Replaces `target` by `source` file by file, so that a reader never meets a half-written folder."""
    for root, _, files in os.walk(source):
        to = os.path.join(target, os.path.relpath(root, source))
        os.makedirs(to, exist_ok=True)
        for f in files:
            shutil.copyfile(os.path.join(root, f), os.path.join(to, f + ".new"))
            os.replace(os.path.join(to, f + ".new"), os.path.join(to, f))


def train(args):
    args.device = "cpu"
    scale = torch.load(os.path.join(args.work, "latents.pt"))["scale"]
    write_standard(args, averaged(args, "unet", nets.unet()), scale)
    if os.path.exists(os.path.join(args.work, "inpaint.pt")):
        write_inpainting(args, averaged(args, "inpaint", nets.unet(9)))


def write_standard(args, unet, scale):
    with tempfile.TemporaryDirectory() as tmp:
        pipeline(args, unet, scale).to(torch.float16).save_pretrained(tmp)
        plain_names(tmp)
        shutil.rmtree(os.path.join(tmp, "tokenizer"))
        shutil.copytree(os.path.join(args.work, "tokenizer"), os.path.join(tmp, "tokenizer"))
        put(tmp, os.path.join(args.out, "standard"))


def write_inpainting(args, unet):
    out = os.path.join(args.out, "inpainting")
    with tempfile.TemporaryDirectory() as tmp:
        unet.to(torch.float16).save_pretrained(os.path.join(tmp, "unet"))
        index = json.load(open(os.path.join(args.out, "standard", "model_index.json")))
        index["_class_name"] = "StableDiffusionInpaintPipeline"
        json.dump(index, open(os.path.join(tmp, "model_index.json"), "w"), indent=2)
        put(tmp, out)
    for name in SHARED:
        link = os.path.join(out, name)
        if not os.path.islink(link):
            os.symlink(os.path.join("..", "standard", name), link)
