"""The same work on PyTorch, and the weights for both: run by tests/gpu/run.sh on a machine with a GPU.

    python peer.py make FOLDER              # Stable Diffusion 2.0's shapes, random weights in f16, as a diffusers folder, and
                                            # what diffusers makes with them in f32 (wanted.safetensors)
    python peer.py bench FOLDER [--compile] [--size N] # guided steps and decodes by diffusers: f16, channels-last, SDPA

The transition is what the original does: branch by branch, each guided step a batch of two, each frame decoded alone. Its time
is that of 239 such steps and 45 decodes, from the means of 20 and 4 of them ("by computation").
"""
import argparse
import os
import sys
import time
from pathlib import Path

SIZES = (768, 512)
ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/golden"))
sys.path.insert(0, str(ROOT / "tests/fullsize"))


def make(folder):
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPTextConfig, CLIPTextModel

    import checkpoints
    import run as full
    from common import randn

    # The recorders' own settings, for one thread and the same bits everywhere, are not for this.
    torch.set_num_threads(os.cpu_count())
    torch.use_deterministic_algorithms(False)
    torch.set_grad_enabled(False)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    full.tokenizer(folder / "tokenizer")
    text = CLIPTextModel(CLIPTextConfig(**(checkpoints.TEXT | full.TEXT), vocab_size=49408, bos_token_id=49406,
                                        eos_token_id=49407, pad_token_id=1))
    unet = UNet2DConditionModel(**(checkpoints.UNET | full.UNET), in_channels=4)
    vae = AutoencoderKL(**(checkpoints.VAE | full.VAE))
    context = randn(20, 1, 77, 1024)
    wanted = {"context": context} | {f"latent{size}": randn(size, 1, 4, size // 8, size // 8) for size in SIZES}
    at = torch.tensor(481, device="cuda")
    works = {
        "unet": (lambda unet, x, context: unet(x, at, encoder_hidden_states=context).sample, "unet"),
        "vae": (lambda vae, x, context: vae.decode(x).sample, "decoded"),
    }
    for name, model, seed in [("text_encoder", text, 11), ("unet", unet, 12), ("vae", vae, 13)]:
        checkpoints.draw(model, seed)
        model.half().eval().save_pretrained(folder / name, safe_serialization=True)
        if name in works:
            work, called = works[name]
            model = model.cuda()
            inputs = [(size, wanted[f"latent{size}"].cuda()) for size in SIZES]
            half = [work(model, latent.half(), context.cuda().half()).double().cpu() for _, latent in inputs]
            model = model.float()
            for (size, latent), there in zip(inputs, half):
                want = work(model, latent, context.cuda()).cpu()
                assert torch.isfinite(want).all() and want.std() > 0.05, (name, size)
                wanted[f"{called}{size}"] = want
                wanted[f"{called}{size}_error"] = ((there - want).norm() / want.double().norm()).float().reshape(1)
        del model
    save_file({key: value.contiguous() for key, value in wanted.items()}, folder / "wanted.safetensors")
    kind = checkpoints.KINDS["base"]
    checkpoints.write_scheduler(folder / "scheduler", kind)
    checkpoints.write_index(folder, kind)


def bench(folder, compiled, sizes):
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    torch.set_grad_enabled(False)
    torch.backends.cudnn.benchmark = True
    put = lambda model: model.half().cuda().to(memory_format=torch.channels_last).eval()
    unet = put(UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float16))
    vae = put(AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float16))
    decode = vae.decode
    if compiled:
        # max-autotune takes more minutes than such a run has.
        unet = torch.compile(unet, mode="reduce-overhead", fullgraph=True, dynamic=False)
        decode = torch.compile(vae.decode, mode="reduce-overhead", fullgraph=True, dynamic=False)
    how = "torch.compile reduce-overhead" if compiled else "eager"
    print(f"\n{torch.cuda.get_device_name()}, torch {torch.__version__}, diffusers f16 channels-last SDPA, {how}\n")
    print("| size | batch | ms a step | ms a pair |\n|---|---|---|---|")

    def timed(work, warm, count):
        for _ in range(warm):
            work()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            work()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / count * 1e3

    for size in sizes:
        side = size // 8
        for batch in (2,) if compiled else (2, 32):
            latents = torch.randn(batch, 4, side, side, dtype=torch.float16, device="cuda").to(memory_format=torch.channels_last)
            context = torch.randn(batch, 77, 1024, dtype=torch.float16, device="cuda")
            at = torch.tensor(481, device="cuda")
            step = timed(lambda: unet(latents, at, encoder_hidden_states=context, return_dict=False), 5, 20)
            print(f"| {size} | {batch} | {step:.2f} | {step * 2 / batch:.2f} |", flush=True)
            if batch == 2:
                pair = step
        latent = torch.randn(1, 4, side, side, dtype=torch.float16, device="cuda").to(memory_format=torch.channels_last)
        frame = timed(lambda: decode(latent, return_dict=False), 2, 4)
        print(f"| {size} | decode, 1 | {frame:.2f} | |")
        print(f"| {size} | 'medium' by computation, 239 steps and 45 decodes | {(239 * pair + 45 * frame) / 1e3:.2f} s | |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["make", "bench"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--size", type=int, choices=SIZES)
    arguments = parser.parse_args()
    if arguments.task == "make":
        make(arguments.folder)
    else:
        bench(arguments.folder, arguments.compile, [arguments.size] if arguments.size else SIZES)
