"""A small byte-pair tokenizer in CLIP's format, so that its files load wherever SD 2's do."""
import json
import os
from collections import Counter

import numpy as np
from transformers import CLIPTokenizer

import captions
import scenes

BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def byte_symbols():
    """CLIP's printable symbol of each byte, in the order of its vocabulary ("!" has id 0, SD 2's padding)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def word_counts():
    """How often each word is met in captions, plus once for all that they could hold."""
    rng, counts = np.random.default_rng(0), Counter()
    for i in range(4000):
        counts.update(captions.caption(scenes.sample(i), rng).replace(",", " ").replace(":", " ").split())
    counts.update(" ".join(captions.vocabulary()).replace(",", " ").replace(":", " ").split())
    return counts


def learn_merges(counts):
    """Joins the most frequent pair again and again until each word is one symbol."""
    symbols = byte_symbols()
    words = {}
    for word, n in sorted(counts.items()):
        s = [symbols[b] for b in word.encode()]
        words[word] = (s[:-1] + [s[-1] + "</w>"], n)
    merges = []
    while True:
        pairs = Counter()
        for s, n in words.values():
            for pair in zip(s, s[1:]):
                pairs[pair] += n
        if not pairs:
            return merges
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        for word, (s, n) in words.items():
            out, i = [], 0
            while i < len(s):
                if tuple(s[i:i + 2]) == best:
                    out.append(s[i] + s[i + 1])
                    i += 2
                else:
                    out.append(s[i])
                    i += 1
            words[word] = (out, n)


def write(folder):
    os.makedirs(folder, exist_ok=True)
    base = list(byte_symbols().values())
    merges = learn_merges(word_counts())
    vocab = list(dict.fromkeys(base + [b + "</w>" for b in base] + [a + b for a, b in merges] + [BOS, EOS]))
    dump = lambda name, value: json.dump(value, open(os.path.join(folder, name), "w"), ensure_ascii=False, indent=2)
    dump("vocab.json", {t: i for i, t in enumerate(vocab)})
    with open(os.path.join(folder, "merges.txt"), "w") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    special = lambda t: {"content": t, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    dump("special_tokens_map.json", {"bos_token": special(BOS), "eos_token": special(EOS), "pad_token": "!", "unk_token": special(EOS)})
    token = lambda t: {"__type": "AddedToken", **special(t)}
    dump("tokenizer_config.json", {
        "add_prefix_space": False, "bos_token": token(BOS), "eos_token": token(EOS), "unk_token": token(EOS), "pad_token": "!",
        "do_lower_case": True, "errors": "replace", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"})


def load(folder):
    if not os.path.exists(os.path.join(folder, "vocab.json")):
        write(folder)
    return CLIPTokenizer.from_pretrained(folder)


def encode(tokenizer, texts):
    """Token ids [n, 77] as the diffusers pipelines make them."""
    return tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
