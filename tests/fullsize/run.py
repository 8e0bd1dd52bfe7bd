"""Stable Diffusion 2.0 at its full size, with random weights: the networks against diffusers, and the memory of a frame.

    cargo build --example fullsize
    python tests/fullsize/run.py SCRATCH                    # everything; some minutes to an hour on two cores
    python tests/fullsize/run.py SCRATCH --only judge       # or: make, judge, frame

`make` writes two model folders in diffusers layout (UNets of 4 and of 9 channels; 4.3 GB of f16 in all) into SCRATCH, their
weights drawn from a seed as those of the tiny checkpoints are (tests/golden/checkpoints.py says why), and what diffusers and
transformers compute with them in f32. `judge` lets the library compute the same in f32 and compares. `frame` renders one frame
of 512x512 pixels (`--precision`) and reads the highest memory from the system. Exit status 1 where a bound is passed. Needs the packages of
tests/golden/requirements.txt, 5 GB of disk and 8 GB of memory; networks run one after the other.
"""
import argparse
import gc
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/golden"))

BOUND = 1e-4  # relative error of each network
PEAK = {"f32": 6.5e9, "bf16": 3.2e9}  # bytes for a frame of 512x512 pixels
PROMPTS = ["a photo of a mountain lake at dawn, very detailed", "ruins of a temple, fog, oil on canvas"]
SIDE = 64  # of a latent: 512 pixels

UNET = dict(
    sample_size=64, out_channels=4, block_out_channels=(320, 640, 1280, 1280), attention_head_dim=[5, 10, 20, 20],
    cross_attention_dim=1024, norm_num_groups=32,
)
VAE = dict(sample_size=768, block_out_channels=(128, 256, 512, 512), norm_num_groups=32)
TEXT = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, projection_dim=512)


def tokenizer(folder):
    """Writes CLIP's vocabulary as a folder has it."""
    import tiny_tokenizer
    source = ROOT / "models/clip/bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.open(source).read().decode("utf-8").split("\n")[1:49152 - 256 - 2 + 1]
    symbols, _ = tiny_tokenizer.byte_symbols()
    tokens = symbols + [s + "</w>" for s in symbols] + [m.replace(" ", "") for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    names = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "!"}
    (folder / "special_tokens_map.json").write_text(json.dumps(names))
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def make(scratch):
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    import checkpoints
    from common import randn

    torch.set_num_threads(os.cpu_count())

    def drawn(model, seed):
        checkpoints.draw(model, seed)
        return checkpoints.half(model)

    def stored(model, folder):
        model.half().save_pretrained(folder, safe_serialization=True)
        return model.float()

    base, inpainting = scratch / "base", scratch / "inpainting"
    tokenizer(base / "tokenizer")
    ids = CLIPTokenizer.from_pretrained(base / "tokenizer")(
        PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    text = CLIPTextModel(CLIPTextConfig(**(checkpoints.TEXT | TEXT), vocab_size=49408, bos_token_id=49406,
                                        eos_token_id=49407, pad_token_id=1))
    text = drawn(text, 11)
    print(f"text encoder: {sum(p.numel() for p in text.parameters()):,} parameters", flush=True)
    context = text(ids).last_hidden_state
    wanted = {"text": context.clone()}
    inputs = {"ids": ids, "context": context[:1].clone()}
    stored(text, base / "text_encoder")
    del text
    gc.collect()
    for folder, kind, channels, seed in ((base, "base", 4, 12), (inpainting, "inpainting", 9, 13)):
        unet = UNet2DConditionModel(**(checkpoints.UNET | UNET), in_channels=channels)
        unet = drawn(unet, seed)
        print(f"unet, {channels} channels: {sum(p.numel() for p in unet.parameters()):,} parameters", flush=True)
        latent = randn(seed + 100, 1, channels, SIDE, SIDE)
        if channels == 9:  # latent 4 | mask 1 | latents of the masked image 4
            latent[:, 4] = (latent[:, 4] > 0).float()
            latent[:, 5:] *= 1 - latent[:, 4:5]
        inputs[f"latent{channels}"] = latent
        wanted[f"unet{channels}"] = unet(latent, torch.tensor(481), encoder_hidden_states=inputs["context"]).sample
        stored(unet, folder / "unet")
        del unet
        gc.collect()
        kind = checkpoints.KINDS[kind]
        checkpoints.write_scheduler(folder / "scheduler", kind)
        checkpoints.write_index(folder, kind)
    vae = drawn(AutoencoderKL(**(checkpoints.VAE | VAE)), 14)
    print(f"vae: {sum(p.numel() for p in vae.parameters()):,} parameters", flush=True)
    image = randn(15, 1, 3, 8 * SIDE, 8 * SIDE).mul(0.4).clamp(-1, 1)
    posterior = vae.encode(image).latent_dist
    inputs |= {"image": image, "vae_latent": 1.5 * randn(16, 1, 4, SIDE, SIDE)}
    wanted |= {"mean": posterior.mean, "logvar": posterior.logvar, "decoded": vae.decode(inputs["vae_latent"]).sample}
    stored(vae, base / "vae")
    for part in ("vae", "text_encoder", "tokenizer"):
        link = inpainting / part
        link.unlink(missing_ok=True)
        link.symlink_to(f"../base/{part}")
    for name, value in wanted.items():
        print(f"  {name}: {tuple(value.shape)} std {value.std():.3f} max {value.abs().max():.2f}")
        assert torch.isfinite(value).all() and value.std() > 0.05, name
    save_file({k: v.contiguous() for k, v in inputs.items()}, scratch / "inputs.safetensors")
    save_file({k: v.contiguous() for k, v in wanted.items()}, scratch / "wanted.safetensors")


def library(binary, *arguments):
    """Runs the library's side; its last line is JSON."""
    run = subprocess.run([binary, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(run.stdout.strip().splitlines()[-1])


def judge(scratch, binary):
    from safetensors.torch import load_file
    wanted, worst = load_file(scratch / "wanted.safetensors"), {}
    peaks = {}
    for model in ("base", "inpainting"):
        output = scratch / f"{model}.safetensors"
        peaks[model] = library(binary, "networks", scratch / model, scratch / "inputs.safetensors", output)
        for name, got in load_file(output).items():
            want = wanted[name].double().reshape(got.shape)
            worst[name] = ((got.double() - want).abs().max() / want.abs().max()).item()
    print("| network | relative error |\n|---|---|")
    for name, error in worst.items():
        print(f"| {name} | {error:.1e} |")
    print(json.dumps(peaks))
    assert set(worst) == set(wanted), set(wanted) - set(worst)
    return [f"{name}: {error:.1e}" for name, error in worst.items() if not error <= BOUND]


def frame(scratch, binary, precision):
    found = library(binary, "frame", scratch / "base", precision)
    print(json.dumps(found, indent=2))
    wanted = PEAK[found["precision"]]
    print(f"peak of a frame of 512x512: {found['peak_bytes'] / 1e9:.2f} GB, wanted up to {wanted / 1e9:.1f} GB")
    return [] if found["peak_bytes"] <= wanted else [f"peak {found['peak_bytes']}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--only", choices=("make", "judge", "frame"))
    parser.add_argument("--precision", default="auto", choices=("auto", "f32", "bf16"), help="of the frame")
    parser.add_argument("--binary", type=Path, default=ROOT / "target/debug/examples/fullsize")
    arguments = parser.parse_args()
    scratch = arguments.scratch.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    failed = []
    if arguments.only == "make" or not arguments.only and not (scratch / "wanted.safetensors").exists():
        make(scratch)
    if arguments.only in (None, "judge"):
        failed += judge(scratch, arguments.binary)
    if arguments.only in (None, "frame"):
        failed += frame(scratch, arguments.binary, arguments.precision)
    sys.exit(f"bounds passed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
