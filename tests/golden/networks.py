"""Records the networks alone: tokenizer, text encoder, the three UNets, the VAE both ways.

Weights come from the f16 files and are computed with in f32. Each output is computed in f64 as well: the difference is
the floor below which no implementation in f32 can be expected to agree, and goes into the file's metadata.
"""
import html

import ftfy
import regex
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

import tiny_tokenizer
from common import TINY, randn, relative, save, save_json, spread

LONG = " ".join(f"a painting of the moon number {i} over the water," for i in range(20))
PROMPTS = [
    "", " ", "a", "photo of a bright blue sky", "PHOTO Of A Bright BLUE sKy", "  leading and trailing  ",
    "several    spaces\tand\ttabs\n\nand\r\nnewlines", "no\u00a0break\u3000ideographic\u2009thin spaces", "it's we're they'll I've she'd I'm don't",
    "IT'S DON'T WE'RE", "rock 'n' roll's end", "it\u2019s a typographic apostrophe", "2022 4k 8K 3.14159 1,000,000", "x2y3z", "\u00bd \u00b2 \u2167 \u0663",
    "wait... what?! (really) -- yes; no: [maybe] {perhaps}", "wow!", "!", "! !! !!!", "a!b", "hello, world! bye", "under_score_name __init__", "_", "a _ b",
    "<|endoftext|>", "cat<|endoftext|>dog", "a <|startoftext|> b", "<|ENDOFTEXT|>", "<|endof text|> <end_of_text>", "caf\u00e9 na\u00efve \u00c4mter Stra\u00dfe",
    "cafe\u0301 nai\u0308ve A\u030amal", "\u0130stanbul \u0131\u015f\u0131k \u01c5 \u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2", "\u65e5\u672c\u306e\u5c71\u3068\u6d77", "\ud55c\uad6d\uc5b4 \u4e2d\u6587mixed\u30c6\u30ad\u30b9\u30c8",
    "\U0001f600 a smile \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f", "fi\ufb01 \u2460 \uff21\uff22\uff23 \u212b", "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u0928\u092e\u0938\u094d\u0924\u0947",
    "zero\u200bwidth and soft\u00adhyphen and bom\ufeff", "bell\x07 null\x00 escape\x1b[0m del\x7f c1\x85x", "AT&amp;T &lt;tag&gt; &eacute; &amp;amp;", "caf\u00c3\u00a9 mojibake",
    "https://example.org/a?b=c&d=%20#e", "$5 + \u20ac6 = 100% @home #tag ^~`|\\", "\"quotes\" \u201ccurly\u201d \u00abguillemets\u00bb \u2014 dash\u2026", "=" * 90, "a " * 100, LONG,
    " ".join(["moon"] * 75), " ".join(["moon"] * 76), "xyz" * 60, "\u65e5" * 40, "the mountain, the river and the moon above the water",
]


def tokenizer():
    return CLIPTokenizer.from_pretrained(TINY / "base" / "tokenizer")


def encode_ids(tok, prompts):
    return tok(prompts, padding="max_length", max_length=tok.model_max_length, truncation=True, return_tensors="pt").input_ids


class OpenClipTokenizer:
    """What the 2022 software used (open_clip.tokenize).

    It knows no special token inside a prompt but its own two, so "!" stays an ordinary token; text is repaired first
    (ftfy: curly quotes become straight ones, ligatures are split, control characters go), HTML entities are resolved;
    and the last of 77 ids is always the end token.
    """

    def __init__(self, vocab, merges):
        self.vocab, self.rank = vocab, {pair: i for i, pair in enumerate(merges)}
        self.bytes = tiny_tokenizer.byte_symbols()[1]
        self.pattern = regex.compile(r"<start_of_text>|<end_of_text>|" + tiny_tokenizer.PATTERN.pattern, regex.IGNORECASE)

    def word(self, text):
        if text in ("<start_of_text>", "<end_of_text>"):
            return [self.vocab[{"<s": "<|startoftext|>", "<e": "<|endoftext|>"}[text[:2]]]]
        symbols = [self.bytes[b] for b in text.encode("utf-8")]
        symbols = tuple(symbols[:-1]) + (symbols[-1] + "</w>",)
        while len(symbols) > 1:
            best = min(zip(symbols, symbols[1:]), key=lambda p: self.rank.get(p, 1 << 30))
            if best not in self.rank:
                break
            symbols = tiny_tokenizer.merge(symbols, best)
        return [self.vocab[s] for s in symbols]

    def __call__(self, text, repair=True):
        text = html.unescape(html.unescape(ftfy.fix_text(text) if repair else text)).strip()
        text = " ".join(text.split()).strip().lower()
        ids = [self.vocab["<|startoftext|>"]]
        for word in self.pattern.findall(text):
            ids += self.word(word)
        ids = (ids + [self.vocab["<|endoftext|>"]])[:77]
        if len(ids) == 77:
            ids[-1] = self.vocab["<|endoftext|>"]
        return ids + [0] * (77 - len(ids))


def record_tokenizer():
    tok = tokenizer()
    old = OpenClipTokenizer(tok.get_vocab(), [tuple(m) for m in tiny_tokenizer.learn()])
    cases = []
    for prompt in PROMPTS:
        every = tok(prompt).input_ids
        case = {"prompt": prompt, "ids": encode_ids(tok, [prompt])[0].tolist(), "tokens": len(every)}
        if len(every) > 77:
            case["dropped"] = every[76:-1]
        for name, ids in (("open_clip", old(prompt)), ("open_clip_unrepaired", old(prompt, repair=False))):
            if ids != case.get("open_clip", case["ids"]):
                case[name] = ids
        cases.append(case)
    print(f"  {len(cases)} prompts, open_clip differs on {sum('open_clip' in c for c in cases)}")
    save_json("tokenizer", cases)


def text_encoder(dtype=torch.float32):
    return CLIPTextModel.from_pretrained(TINY / "base" / "text_encoder", dtype=dtype).eval()


def unet(kind, dtype=torch.float32):
    return UNet2DConditionModel.from_pretrained(TINY / kind / "unet", dtype=dtype).eval()


def vae(dtype=torch.float32):
    return AutoencoderKL.from_pretrained(TINY / "base" / "vae", dtype=dtype).eval()


def contexts(prompts):
    return text_encoder()(encode_ids(tokenizer(), prompts)).last_hidden_state


def record_text_encoder():
    prompts = ["", "photo of a bright blue sky, it's 4k", LONG]
    ids = encode_ids(tokenizer(), prompts)
    out = text_encoder()(ids, output_hidden_states=True)
    exact = text_encoder(torch.float64)(ids).last_hidden_state
    spread("last_hidden_state", out.last_hidden_state)
    tensors = {"ids": ids, "last_hidden_state": out.last_hidden_state}
    for i, hidden in enumerate(out.hidden_states):  # 0: the embeddings, k: after layer k; the final norm comes after the last
        tensors[f"debug.hidden.{i}"] = hidden[1]
    save("text_encoder", tensors, prompts=prompts[:2] + ["LONG of networks.py"], f32_error=relative(out.last_hidden_state, exact))


CASES = {  # name: (height, width, timestep of each of the two in the batch)
    "square8": (8, 8, (981, 981)), "square16": (16, 16, (500, 500)), "odd9x13": (9, 13, (1, 1)), "mixed_t": (8, 8, (999, 321)),
}
PAIR = ["an old painting of a strange house on a hill", "photo of a bright blue sky with white clouds"]


def taps(model, names):
    """Keeps what the named modules give out, under their own names."""
    seen = {}
    for name in names:
        def hook(module, args, out, name=name):
            seen[name] = (out[0] if isinstance(out, tuple) else getattr(out, "sample", out)).clone()
        model.get_submodule(name).register_forward_hook(hook)
    return seen


def record_unet(kind, seed):
    model, exact = unet(kind), unet(kind, torch.float64)
    channels = model.config.in_channels
    context = contexts(PAIR)
    tensors, worst = {"context": context}, 0.0
    for i, (name, (h, w, t)) in enumerate(CASES.items()):
        latent = randn(seed + i, 2, channels, h, w)
        if channels == 9:  # latent 4 | mask 1 | latents of the masked image 4
            latent[:, 4] = (latent[:, 4] > 0).float()
            latent[:, 5:] *= 1 - latent[:, 4:5]
        t = torch.tensor(t)
        out = model(latent, t, encoder_hidden_states=context).sample
        worst = max(worst, relative(out, exact(latent.double(), t, encoder_hidden_states=context.double()).sample))
        spread(f"{kind}.{name}", out)
        tensors |= {f"{name}.latent": latent, f"{name}.timestep": t, f"{name}.output": out}
    save(f"unet_{kind}", tensors, prompts=PAIR, f32_error=worst)
    if kind == "base":
        attention = "down_blocks.0.attentions.0"
        block = attention + ".transformer_blocks.0"
        names = ["time_proj", "time_embedding", "conv_in", "down_blocks.0.resnets.0", attention, attention + ".norm", attention + ".proj_in",
                 block + ".norm1", block + ".attn1", block + ".attn2", block + ".ff", block, *(f"down_blocks.{i}" for i in range(4)),
                 "mid_block", *(f"up_blocks.{i}" for i in range(4)), "conv_norm_out", "conv_out"]
        model = unet(kind)
        seen = taps(model, names)
        case = "odd9x13"  # shows where the upsample size has to be forwarded
        model(tensors[f"{case}.latent"][1:], tensors[f"{case}.timestep"][1:], encoder_hidden_states=context[1:])
        save("unet_base_debug", {"latent": tensors[f"{case}.latent"][1:], "timestep": tensors[f"{case}.timestep"][1:],
                                 "context": context[1:], **{n: seen[n] for n in names}}, case=case)


def record_vae():
    model, exact = vae(), vae(torch.float64)
    tensors, worst = {}, 0.0
    for name, seed, h, w in (("even", 31, 4, 6), ("odd", 32, 5, 7)):
        ramp = torch.linspace(-1, 1, 8 * w).expand(8 * h, -1)
        image = (0.6 * torch.stack([ramp, ramp.flip(1), torch.sin(5 * ramp)])[None] + 0.3 * randn(seed, 1, 3, 8 * h, 8 * w)).clamp(-1, 1)
        posterior = model.encode(image).latent_dist
        latent = 1.5 * randn(seed + 10, 1, 4, h, w)
        decoded = model.decode(latent).sample
        for label, tensor in (("mean", posterior.mean), ("logvar", posterior.logvar), ("decoded", decoded)):
            spread(f"vae.{name}.{label}", tensor)
        high = exact.encode(image.double()).latent_dist
        worst = max(worst, relative(posterior.mean, high.mean), relative(posterior.logvar, high.logvar),
                    relative(decoded, exact.decode(latent.double()).sample))
        tensors |= {f"{name}.image": image, f"{name}.mean": posterior.mean, f"{name}.logvar": posterior.logvar,
                    f"{name}.latent": latent, f"{name}.decoded": decoded}
    save("vae", tensors, f32_error=worst)
    names = ["encoder.conv_in", *(f"encoder.down_blocks.{i}" for i in range(4)), "encoder.mid_block", "encoder.conv_norm_out", "encoder",
             "quant_conv", "post_quant_conv", "decoder.conv_in", "decoder.mid_block", "decoder.mid_block.attentions.0",
             *(f"decoder.up_blocks.{i}" for i in range(3)), "decoder.conv_norm_out"]
    seen = taps(model, names)
    image, latent = tensors["even.image"][..., :24], tensors["even.latent"][..., :3]
    decoded, posterior = model.decode(latent).sample, model.encode(image).latent_dist
    save("vae_debug", {"image": image, "latent": latent, "mean": posterior.mean, "decoded": decoded, **{n: seen[n] for n in names}})


def names_match_released_layout():
    """The names a reader meets in released folders; a change of library version must not change them unnoticed."""
    text = load_file(TINY / "base" / "text_encoder" / "model.safetensors")
    assert "text_model.encoder.layers.0.self_attn.q_proj.weight" in text, sorted(text)[:4]
    assert "text_model.final_layer_norm.bias" in text


def record():
    names_match_released_layout()
    record_tokenizer()
    record_text_encoder()
    for kind, seed in (("base", 100), ("v", 200), ("inpainting", 300)):
        record_unet(kind, seed)
    record_vae()
