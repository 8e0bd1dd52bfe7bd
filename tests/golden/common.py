"""What every recorder shares: determinism, paths, and one way of writing a file.

Recordings must come out the same on every run, so: one thread, deterministic kernels, no TF32, and every random
number from a torch CPU generator with a seed that stands in the source.
"""
import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is ever fetched
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
TINY = HERE / "tiny"
LIMIT = 300_000  # bytes a recording may take: these files live in git

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
torch.set_grad_enabled(False)


def generator(seed):
    return torch.Generator("cpu").manual_seed(seed)


def randn(seed, *shape):
    return torch.randn(shape, generator=generator(seed))


def save(name, tensors, **meta):
    """Writes tests/golden/<name>.safetensors; f32, or f64 where that is meant; integers as i64, pixels as u8."""
    out = {}
    for key, value in tensors.items():
        value = torch.as_tensor(np.asarray(value) if not torch.is_tensor(value) else value)
        if value.dtype not in (torch.float32, torch.float64, torch.uint8):
            value = value.to(torch.int64)
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"{name}: {key} is not finite")
        out[key] = value.detach().clone().contiguous()
    path = HERE / f"{name}.safetensors"
    save_file(out, path, metadata={k: str(v) for k, v in meta.items()} or None)
    settle(path)
    path.chmod(0o644)
    size = path.stat().st_size
    if size > LIMIT:
        raise ValueError(f"{path.name}: {size} bytes is more than {LIMIT}")
    print(f"{path.name}: {size} bytes, {len(out)} tensors")
    return path


def settle(path):
    """Puts the metadata in order: the library writes it in an order that changes from run to run."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + length])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length:])


def save_json(name, value):
    path = HERE / f"{name}.json"
    path.write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")
    if path.stat().st_size > LIMIT:
        raise ValueError(f"{path.name}: {path.stat().st_size} bytes is more than {LIMIT}")
    print(f"{path.name}: {path.stat().st_size} bytes")


def relative(a, b):
    """Largest difference over the largest magnitude: the measure that the tests use too."""
    a, b = torch.as_tensor(a).double(), torch.as_tensor(b).double()
    return ((a - b).abs().max() / b.abs().max()).item()


def spread(name, tensor):
    """Prints the scale of an output and refuses one that would hide errors (nearly constant, or exploded)."""
    std = tensor.double().std().item()
    print(f"  {name}: {tuple(tensor.shape)} mean {tensor.double().mean():+.3f} std {std:.3f} max {tensor.abs().max():.2f}")
    if not 0.1 <= std <= 3.0:
        raise ValueError(f"{name}: std {std} outside 0.1..3")
