"""Records what transformers and OpenCLIP make of prompts with CLIP's own vocabulary, built as OpenCLIP builds it."""
import gzip
import importlib.metadata
import importlib.util
import json
import tempfile
from pathlib import Path

from transformers import CLIPTokenizer

import tiny_tokenizer
from common import HERE, save_json
from networks import PROMPTS, encode_ids

SOURCE = HERE.parent.parent / "models/clip/bpe_simple_vocab_16e6.txt.gz"


def open_clip():
    """OpenCLIP's tokenizer alone: the package as a whole wants vision libraries."""
    file = next(f for f in importlib.metadata.files("open_clip_torch") if str(f) == "open_clip/tokenizer.py")
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", file.locate())
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SimpleTokenizer(bpe_path=str(SOURCE))


def record():
    merges = gzip.open(SOURCE).read().decode("utf-8").split("\n")[1:49152 - 256 - 2 + 1]
    symbols, _ = tiny_tokenizer.byte_symbols()
    tokens = symbols + [s + "</w>" for s in symbols] + [m.replace(" ", "") for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    old = open_clip()
    vocab = {token: i for i, token in enumerate(tokens)}
    # OpenCLIP has given its two special tokens other names since.
    assert list(old.encoder.items())[:-2] == list(vocab.items())[:-2] and len(old.encoder) == len(vocab) == 49408
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
        special = lambda token: {"__type": "AddedToken", "content": token, "lstrip": False, "normalized": True, "rstrip": False,
                                 "single_word": False}  # as in Stable Diffusion 2's own folder
        config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "!", "unk_token": special("<|endoftext|>"),
                  "bos_token": special("<|startoftext|>"), "eos_token": special("<|endoftext|>")}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        cases = []
        for prompt in PROMPTS:
            case = {"prompt": prompt, "ids": encode_ids(tokenizer, [prompt])[0].tolist()}
            theirs = old([prompt])[0].tolist()
            if theirs != case["ids"]:
                case["open_clip"] = theirs
            cases.append(case)
    print(f"  {len(cases)} prompts, open_clip differs on {sum('open_clip' in c for c in cases)}")
    save_json("clip_tokenizer", cases)
