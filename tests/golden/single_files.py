"""Records models in PyTorch's own archives: single files in the naming of Stable Diffusion's releases, .bin files of a
folder, and archives that must be refused. The renaming is checked against diffusers' own converter.
"""
import argparse
import os
import sys
import types

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as theirs
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel

from common import HERE, TINY, randn, save_json

FOLDER = HERE / "archives"
RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
          "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}
VAE = {"conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut", "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v",
       "to_out.0": "proj_out", "mid_block.resnets.0": "mid.block_1", "mid_block.resnets.1": "mid.block_2",
       "mid_block.attentions.0": "mid.attn_1"}
TEXT = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj"}


def unet_name(name, layers, levels, attention):
    """The name in a single file; attention says which levels, from the outermost, have transformers."""
    top = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
           "conv_norm_out": "out.0", "conv_out": "out.2"}
    for old, new in top.items():
        if name.startswith(old + "."):
            return new + name[len(old):]
    block, *rest = name.split(".")
    if block == "mid_block":
        kind, index, *rest = rest
        place = f"middle_block.{1 if kind == 'attentions' else 2 * int(index)}"
    else:
        level, kind, index, *rest = rest
        level, index, step = int(level), int(index), layers + 1
        if kind == "downsamplers":
            return ".".join([f"input_blocks.{step * (level + 1)}.0.op", *rest[1:]])
        if kind == "upsamplers":
            return ".".join([f"output_blocks.{step * level + layers}.{2 if attention[levels - 1 - level] else 1}", *rest])
        number = step * level + index + (block == "down_blocks")
        place = f"{'input' if block == 'down_blocks' else 'output'}_blocks.{number}.{1 if kind == 'attentions' else 0}"
    if kind == "resnets":
        rest[0] = RESNET[rest[0]]
    return ".".join([place, *rest])


def vae_name(name, levels):
    for old, new in VAE.items():
        name = name.replace(f"{old}.", f"{new}.")
    for block in range(levels):
        name = name.replace(f"encoder.down_blocks.{block}.resnets.", f"encoder.down.{block}.block.")
        name = name.replace(f"decoder.up_blocks.{block}.resnets.", f"decoder.up.{levels - 1 - block}.block.")
        name = name.replace(f"encoder.down_blocks.{block}.downsamplers.0", f"encoder.down.{block}.downsample")
        name = name.replace(f"decoder.up_blocks.{block}.upsamplers.0", f"decoder.up.{levels - 1 - block}.upsample")
    return name


def text_tensors(tensors, layers):
    """With one layer more than a folder has: the original runs all but the last."""
    out = {}
    at = "text_model.encoder.layers."
    for name, value in tensors.items():
        if name.startswith(at):
            index, part = name[len(at):].split(".", 1)
            if part.startswith("self_attn.") and part[10:16] in ("q_proj", "k_proj", "v_proj"):
                continue
            for old, new in TEXT.items():
                part = part.replace(old, new)
            out[f"transformer.resblocks.{index}.{part}"] = value
    for k in range(layers):
        for kind in ("weight", "bias"):
            parts = [tensors[f"{at}{k}.self_attn.{p}_proj.{kind}"] for p in "qkv"]
            out[f"transformer.resblocks.{k}.attn.in_proj_{kind}"] = torch.cat(parts)
    last = f"transformer.resblocks.{layers - 1}."
    for name in [n for n in out if n.startswith(last)]:
        value = out[name]
        out[name.replace(last, f"transformer.resblocks.{layers}.")] = (
            torch.empty_like(value) if value.is_meta else torch.full_like(value, 7.0))
    e = "text_model.embeddings."
    out["token_embedding.weight"] = tensors[e + "token_embedding.weight"]
    out["positional_embedding"] = tensors[e + "position_embedding.weight"]
    out["ln_final.weight"] = tensors["text_model.final_layer_norm.weight"]
    out["ln_final.bias"] = tensors["text_model.final_layer_norm.bias"]
    return out


def single(unet, vae, text, config, vae_config, text_layers):
    levels = len(config["block_out_channels"])
    attention = ["Cross" in kind for kind in config["down_block_types"]]
    out = {}
    for name, value in unet.items():
        out["model.diffusion_model." + unet_name(name, config["layers_per_block"], levels, attention)] = value
    for name, value in vae.items():
        new = vae_name(name, len(vae_config["block_out_channels"]))
        if ".attn_1." in new and value.dim() == 2:
            value = value[:, :, None, None]
        out["first_stage_model." + new] = value
    for name, value in text_tensors(text, text_layers).items():
        out["cond_stage_model.model." + name] = value
    return out


def tiny(kind):
    import json
    folder = TINY / kind
    read = lambda part: json.loads((folder / part / "config.json").read_text())
    parts = [load_file(folder / "unet/diffusion_pytorch_model.safetensors"),
             load_file(folder / "vae/diffusion_pytorch_model.safetensors"),
             load_file(folder / "text_encoder/model.safetensors")]
    unet, vae, text = read("unet"), read("vae"), read("text_encoder")
    out = single(*parts, unet, vae, text["num_hidden_layers"])

    def same(got, wanted, what):
        assert set(got) == set(wanted), (what, set(got) ^ set(wanted))
        for name, value in wanted.items():
            assert torch.equal(got[name].reshape(value.shape), value), (what, name)

    same(theirs.convert_ldm_unet_checkpoint(dict(out), config=unet), parts[0], "unet")
    same(theirs.convert_ldm_vae_checkpoint(dict(out), config=vae), parts[1], "vae")
    print(f"  diffusers reads the single file of tiny/{kind} back to the folder's UNet and VAE")
    return out


def shapes():
    """Names and shapes of Stable Diffusion 2.0's single file, from models of full size without numbers."""
    unet = dict(
        in_channels=4, out_channels=4, block_out_channels=[320, 640, 1280, 1280], layers_per_block=2, cross_attention_dim=1024,
        attention_head_dim=[5, 10, 20, 20], use_linear_projection=True, sample_size=64,
        down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3)
    vae = dict(
        block_out_channels=[128, 256, 512, 512], layers_per_block=2, latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4)
    text = CLIPTextConfig(
        vocab_size=49408, hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16,
        projection_dim=512, hidden_act="gelu")
    with torch.device("meta"):
        models = UNet2DConditionModel(**unet), AutoencoderKL(**vae), CLIPTextModel(text)
    parts = [{k: v for k, v in m.state_dict().items() if not k.endswith("position_ids")} for m in models]
    parts[2] = {k if k.startswith("text_model.") else f"text_model.{k}": v for k, v in parts[2].items()}
    count = sum(v.numel() for v in parts[0].values())
    assert count == 865_910_724, count
    out = single(*parts, unet, vae, 23)
    save_json("single_sd2", {name: list(value.shape) for name, value in sorted(out.items())})


def fake_lightning():
    """A class of a package that is not there, as Lightning checkpoints name it."""
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", "pytorch_lightning.callbacks.model_checkpoint"):
        sys.modules.setdefault(name, types.ModuleType(name))
    module = sys.modules["pytorch_lightning.callbacks.model_checkpoint"]
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    return module.ModelCheckpoint


def checkpoint():
    state = tiny("base")
    prefix = "model.diffusion_model."
    # A transposed view, and two tensors over one storage that start elsewhere than at its beginning.
    name = prefix + "input_blocks.1.1.proj_in.weight"
    state[name] = state[name].t().contiguous().t()
    weight, bias = state[prefix + "time_embed.0.weight"], state[prefix + "time_embed.0.bias"]
    both = torch.cat([torch.zeros(5).half(), weight.flatten(), bias, torch.zeros(3).half()])
    state[prefix + "time_embed.0.weight"] = both[5:5 + weight.numel()].view(weight.shape)
    state[prefix + "time_embed.0.bias"] = both[5 + weight.numel():-3]
    for key in ("out.2.weight", "out.2.bias"):
        state["model_ema.diffusion_model" + key.replace(".", "")] = torch.zeros_like(state[prefix + key])
    state["model_ema.decay"] = torch.tensor(0.9999)
    state["model_ema.num_updates"] = torch.tensor(7, dtype=torch.int32)
    state["betas"], state["alphas_cumprod"] = torch.zeros(1000), torch.ones(1000)
    text = "cond_stage_model.model."
    state[text + "text_projection"] = randn(1, 32, 32).half()
    state[text + "logit_scale"] = torch.tensor(4.6)
    state[text + "attn_mask"] = torch.full((77, 77), float("-inf")).triu(1)
    state["numbers"] = torch.arange(5)
    callback = fake_lightning()
    torch.save({
        "epoch": 0, "global_step": 875000, "pytorch-lightning_version": "1.4.2", "optimizer_states": [], "lr_schedulers": [],
        "callbacks": {callback: {"monitor": "loss", "best": np.float32(0.5), "best_path": None, "instance": callback()}},
        "settings": argparse.Namespace(rate=1e-4, sizes={1, 2}, big=2**70), "state_dict": state,
    }, FOLDER / "tiny.ckpt")


class Call:
    """Pickles to a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def record():
    FOLDER.mkdir(exist_ok=True)
    shapes()
    checkpoint()
    torch.save(load_file(TINY / "base/text_encoder/model.safetensors")
               | {"text_model.embeddings.position_ids": torch.arange(77)[None]}, FOLDER / "pytorch_model.bin")
    vae = load_file(TINY / "base/vae/diffusion_pytorch_model.safetensors")
    torch.save({k: torch.nn.Parameter(v) for k, v in vae.items()}, FOLDER / "diffusion_pytorch_model.bin")
    # Nothing that opens these may create the file they speak of.
    mark = "touch latentblend-was-here"
    torch.save({"state_dict": {"a": torch.ones(2)}, "extra": Call(os.system, mark)}, FOLDER / "system.ckpt")
    code = f"import os; os.system({mark!r})"
    torch.save({"state_dict": {"a": torch.ones(2), "b": Call(exec, code)}}, FOLDER / "exec.ckpt")
    torch.save({"a": torch.ones(2)}, FOLDER / "legacy.ckpt", _use_new_zipfile_serialization=False)
    for path in sorted(FOLDER.iterdir()):
        print(f"archives/{path.name}: {path.stat().st_size} bytes")
