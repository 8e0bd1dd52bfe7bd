"""Learns and writes a small byte-pair vocabulary in CLIP's file format.

The layout is that of the real one: 256 byte symbols, the same 256 with the end-of-word mark, the merges in the order they
were learned, then the two special tokens. So "!" is id 0, which Stable Diffusion 2 also uses as padding.
"""
import json
from collections import Counter

import regex

SENTENCES = """
photo of a bright blue sky with white clouds over the sea, trending on artstation
an old painting of a strange house on a hill, surreal, highly detailed
the forest in the morning light, soft mist between the trees, matte painting
a statue of a woman made of marble, standing in the water, photo
portrait of a man with a red hat, oil on canvas, dramatic light
it's a city at night and we're flying over it, they'll never know what I've seen, she doesn't mind, I'd say I'm home
underwater landscape with glowing plants and fish, ultra detailed, cinematic light
café on the corner, naïve art, Ämter und Straßen, 日本の山 and the moon
the mountain, the river and the moon above the water; a painting of the painting
""".strip().splitlines()
MERGES = 150
PATTERN = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


def byte_symbols():
    """A printable stand-in for each byte, as GPT-2 and CLIP use: printable Latin-1 as itself, the rest from U+0100 on."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + extra)
            extra += 1
    order = keep + [b for b in range(256) if b not in keep]
    return [table[b] for b in order], table


def learn():
    _, table = byte_symbols()
    words = Counter()
    for sentence in SENTENCES:
        for word in PATTERN.findall(sentence.lower()):
            symbols = [table[b] for b in word.encode("utf-8")]
            words[tuple(symbols[:-1]) + (symbols[-1] + "</w>",)] += 1
    merges = []
    while len(merges) < MERGES:
        pairs = Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        # most frequent first; ties by the text of the pair, so that the result never depends on hashing
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        words = Counter({merge(word, best): count for word, count in words.items()})
    return merges


def merge(word, pair):
    out, i = [], 0
    while i < len(word):
        if word[i:i + 2] == pair:
            out.append(pair[0] + pair[1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


def write(folder):
    folder.mkdir(parents=True, exist_ok=True)
    symbols, _ = byte_symbols()
    merges = learn()
    tokens = symbols + [s + "</w>" for s in symbols] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    if len(vocab) != len(tokens):
        raise ValueError("two merges give the same token")

    def dump(name, value):
        (folder / name).write_text(json.dumps(value, ensure_ascii=False, indent=None if name == "vocab.json" else 2) + "\n",
                                   encoding="utf-8")

    def special(content):
        return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}

    dump("vocab.json", vocab)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    names = {"bos_token": special("<|startoftext|>"), "eos_token": special("<|endoftext|>"), "pad_token": "!",
             "unk_token": special("<|endoftext|>")}
    dump("special_tokens_map.json", names)
    dump("tokenizer_config.json", {
        "add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77,
        "tokenizer_class": "CLIPTokenizer", **{k: v if isinstance(v, str) else {"__type": "AddedToken", **v} for k, v in names.items()},
    })
    return vocab
