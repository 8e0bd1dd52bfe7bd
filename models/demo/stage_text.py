"""The text encoder: learns to read a picture's attributes off its caption, with no pictures at all.

Every position from the end of the text on (the end token and the padding, which see all words) must tell all that was
said; that is where the UNets' cross-attention will look. Attributes that a caption leaves open are not asked for.
"""
import os
import shutil

import numpy as np
import torch
import torch.nn.functional as F

import captions
import nets
import scenes
import tokenizer
from common import Trainer, autocast, seed_all, warm


class Reader(torch.nn.Module):
    """One linear classifier per attribute over the encoder's states; used in training only."""

    def __init__(self):
        super().__init__()
        self.heads = torch.nn.ModuleList(torch.nn.Linear(nets.WIDTH, len(v) + 1) for v in scenes.ATTRS.values())

    def forward(self, states):
        return [h(states) for h in self.heads]


def said(attrs, rng):
    """A caption and the index of each attribute that it states (the last index: left open)."""
    text, told = captions.caption_and_said(attrs, rng)
    return text, [scenes.ATTRS[n].index(attrs[n]) if n in told else len(v) for n, v in scenes.ATTRS.items()]


def train(args):
    seed_all(args.seed + 1)
    if args.on and not os.path.exists(os.path.join(args.work, "tokenizer")):  # its words follow from the captions of its day
        shutil.copytree(os.path.join(args.out, "standard", "tokenizer"), os.path.join(args.work, "tokenizer"))
    tok = tokenizer.load(os.path.join(args.work, "tokenizer"))
    text, reader = warm(args, nets.text_encoder(tok), "standard", "text_encoder"), Reader().to(args.device)
    t = Trainer("text", args, {"text": text, "reader": reader}, lr=1e-3, steps=args.text_steps)
    if args.on and t.step == 0:  # the UNets were trained on these very states
        t.step = t.steps
        return t.save()
    right = []

    def loss(rng, step):
        made = [said(scenes.sample(int(rng.integers(1 << 30))), rng) for _ in range(64)]
        ids = tokenizer.encode(tok, [m[0] for m in made]).to(args.device)
        want = torch.tensor([m[1] for m in made], device=args.device)
        with autocast(args.device):
            states = text(ids).last_hidden_state
        end = (ids == tok.eos_token_id).int().argmax(1)
        late = torch.tensor([int(rng.integers(e, nets.TOKENS)) for e in end.tolist()], device=args.device)
        rows, total, good = torch.arange(64, device=args.device), 0.0, []
        for at in (end, late):
            for i, out in enumerate(reader(states[rows, at].float())):
                total = total + F.cross_entropy(out, want[:, i]) / (2 * len(scenes.ATTRS))
                good.append((out.argmax(1) == want[:, i]).float().mean().item())
        right.append(np.mean(good))
        return total

    t.run(loss, lambda step: f"read right {np.mean(right[-100:]):.4f}", every=200)
    return t


def load(args):
    tok = tokenizer.load(os.path.join(args.work, "tokenizer"))
    text = nets.text_encoder(tok)
    text.load_state_dict(torch.load(os.path.join(args.work, "text.pt"), map_location="cpu")["modules"]["text"])
    return tok, text.to(args.device).eval().requires_grad_(False)
