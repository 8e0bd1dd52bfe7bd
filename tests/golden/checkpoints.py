"""Writes the tiny random checkpoints tiny/{base,v,inpainting}: Stable Diffusion 2 in every respect but the sizes.

Random weights would make a poor test if they were drawn carelessly: zero biases hide a forgotten bias, unit norm weights
hide a forgotten scale, small query/key weights make every attention uniform. So every tensor is drawn to matter. The UNet's
last convolution alone is then fitted (least squares) to predict the noise, or v, in smooth random latents: that makes
sampling well conditioned (twenty guided steps in f32 and in f64 differ by some 1e-6), so a tight tolerance means something.
"""
import json
import math
import shutil

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

import tiny_tokenizer
from common import TINY, generator, randn, relative

WIDTH = 32  # of the text encoder
UNET = dict(
    sample_size=16, out_channels=4, flip_sin_to_cos=True, freq_shift=0, center_input_sample=False, act_fn="silu",
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    block_out_channels=(8, 16, 16, 16), layers_per_block=2, norm_num_groups=4, norm_eps=1e-5, downsample_padding=1,
    cross_attention_dim=WIDTH, attention_head_dim=[1, 2, 2, 2], use_linear_projection=True, mid_block_scale_factor=1,
)
VAE = dict(
    sample_size=128, in_channels=3, out_channels=3, latent_channels=4, act_fn="silu", scaling_factor=0.18215,
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(4, 8, 16, 16), layers_per_block=2, norm_num_groups=4,
)
TEXT = dict(
    hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=3, num_attention_heads=2, hidden_act="gelu",
    max_position_embeddings=77, layer_norm_eps=1e-5, projection_dim=WIDTH, attention_dropout=0.0,
)
SCHEDULER = dict(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000, clip_sample=False,
    set_alpha_to_one=False, steps_offset=1, trained_betas=None,
)
# Released folders name PNDM or DDIM as the class: a reader must take the numbers, not the class.
KINDS = {
    "base": dict(seed=2001, in_channels=4, prediction="epsilon", scheduler="PNDMScheduler", pipe="StableDiffusionPipeline"),
    "v": dict(seed=2002, in_channels=4, prediction="v_prediction", scheduler="DDIMScheduler", pipe="StableDiffusionPipeline"),
    "inpainting": dict(seed=2003, in_channels=9, prediction="epsilon", scheduler="PNDMScheduler",
                       pipe="StableDiffusionInpaintPipeline"),
}


def draw(model, seed):
    """Fills every parameter, in name order, from one generator, by its part."""
    gen = generator(seed)
    for name, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=gen)
        if "norm" in name:
            p.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))
        elif "token_embedding" in name:
            p.copy_(0.7 * noise)
        elif "position_embedding" in name:
            p.copy_(0.4 * noise)
        elif p.dim() == 1:
            p.copy_(0.15 * noise)
        else:
            fan_in = p[0].numel()
            # sharper queries and keys, so that attention picks instead of averaging
            gain = 2.0 if any(k in name for k in ("to_q", "to_k", "q_proj", "k_proj")) else 1.0
            p.copy_(gain / math.sqrt(fan_in) * noise)
    if isinstance(model, UNet2DConditionModel):
        # the last skip carries the noisy latent itself: let enough of it through for the fit below to find it
        last = model.up_blocks[-1].resnets[-1]
        skip = model.config.block_out_channels[0]
        last.conv_shortcut.weight[:, :-skip] *= 0.05
        last.conv_shortcut.weight[:, -skip:] *= 2.0
        last.conv2.weight.mul_(0.15)
        model.conv_in.weight.mul_(0.4)
        model.conv_in.weight[:, :, 1, 1] *= 6.0


def half(model):
    """Rounds to f16 and comes back to f32: the weights that a reader of the files sees."""
    return model.half().float().eval()


def smooth(seed, n, side):
    coarse = randn(seed, n, 4, side // 4, side // 4)
    return 0.8 * F.interpolate(coarse, scale_factor=4, mode="bicubic") + 0.3 * randn(seed + 1, n, 4, side, side)


def fit_conv_out(unet, prediction, alphas_cumprod, seed):
    """Least squares for the last convolution (with a ridge), on top of what the random body offers."""
    steps, n, side = (100, 300, 450, 600, 700, 800, 860, 900, 940, 980), 12, 16
    rows, wanted, seen = [], [], {}
    hook = unet.conv_act.register_forward_hook(lambda m, i, o: seen.__setitem__("features", o))
    for k, t in enumerate(steps):
        a = alphas_cumprod[t]
        x0, noise = smooth(seed + 10 * k, n, side), randn(seed + 10 * k + 5, n, 4, side, side)
        x = a.sqrt() * x0 + (1 - a).sqrt() * noise
        target = noise if prediction == "epsilon" else a.sqrt() * noise - (1 - a).sqrt() * x0
        if unet.config.in_channels == 9:
            mask = (randn(seed + 10 * k + 6, n, 1, side, side) > 0).float()
            x = torch.cat([x, mask, x0 * (1 - mask)], 1)
        unet(x, t, encoder_hidden_states=randn(seed + 10 * k + 7, n, 77, WIDTH))
        cols = F.unfold(seen["features"], 3, padding=1)  # [n, C*9, pixels]
        rows.append(cols.transpose(1, 2).reshape(-1, cols.shape[1]))
        wanted.append(target.permute(0, 2, 3, 1).reshape(-1, 4))
    hook.remove()
    a = torch.cat(rows).double()
    a = torch.cat([a, torch.ones(len(a), 1, dtype=a.dtype)], 1)
    b = torch.cat(wanted).double()
    ridge = 1e-3 * len(a) * torch.eye(a.shape[1], dtype=a.dtype)
    w = torch.linalg.solve(a.T @ a + ridge, a.T @ b)
    explained = 1 - ((a @ w - b) ** 2).mean() / (b ** 2).mean()
    # some randomness on top keeps the prompt's influence, which a least squares fit averages away
    weight = w[:-1].T.reshape(unet.conv_out.weight.shape).float()
    unet.conv_out.weight.copy_(weight + 0.3 * unet.conv_out.weight)
    unet.conv_out.bias.copy_(w[-1].float() + unet.conv_out.bias)
    print(f"  conv_out explains {explained:.2f} of the target")


def write_scheduler(folder, kind):
    folder.mkdir(parents=True, exist_ok=True)
    config = {"_class_name": kind["scheduler"], "_diffusers_version": "0.8.0", **SCHEDULER, "prediction_type": kind["prediction"]}
    if kind["scheduler"] == "PNDMScheduler":
        config["skip_prk_steps"] = True
    (folder / "scheduler_config.json").write_text(json.dumps(config, indent=2) + "\n")


def write_index(folder, kind):
    index = {
        "_class_name": kind["pipe"], "_diffusers_version": "0.8.0", "feature_extractor": [None, None],
        "requires_safety_checker": False, "safety_checker": [None, None], "scheduler": ["diffusers", kind["scheduler"]],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def write_text_encoder(folder, vocab_size, eos):
    model = CLIPTextModel(CLIPTextConfig(**TEXT, vocab_size=vocab_size, bos_token_id=eos - 1, eos_token_id=eos, pad_token_id=1))
    draw(model, 1001)
    half(model).half().save_pretrained(folder, safe_serialization=True)
    # The released folders prefix every name with "text_model."; current transformers has dropped it when saving.
    path = folder / "model.safetensors"
    tensors = {k if k.startswith("text_model.") else f"text_model.{k}": v.clone() for k, v in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def write(alphas_cumprod):
    shutil.rmtree(TINY, ignore_errors=True)
    for name, kind in KINDS.items():
        folder = TINY / name
        folder.mkdir(parents=True)
        write_scheduler(folder / "scheduler", kind)
        write_index(folder, kind)
        unet = UNet2DConditionModel(in_channels=kind["in_channels"], **UNET)
        draw(unet, kind["seed"])
        fit_conv_out(half(unet), kind["prediction"], alphas_cumprod, kind["seed"] * 1000)
        half(unet).half().save_pretrained(folder / "unet", safe_serialization=True)
        if name == "base":
            vocab = tiny_tokenizer.write(folder / "tokenizer")
            write_text_encoder(folder / "text_encoder", len(vocab), vocab["<|endoftext|>"])
            vae = AutoencoderKL(**VAE)
            draw(vae, 1002)
            half(vae).half().save_pretrained(folder / "vae", safe_serialization=True)
        else:
            for part in ("vae", "text_encoder", "tokenizer"):
                (folder / part).symlink_to(f"../base/{part}")
    for path in TINY.rglob("*.safetensors"):
        path.chmod(0o644)
    sizes = {str(p.relative_to(TINY)): p.stat().st_size for p in sorted(TINY.rglob("*")) if p.is_file() and not p.is_symlink()}
    for path, size in sizes.items():
        print(f"  {path}: {size}")
