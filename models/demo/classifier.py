"""A small network that names a picture's attributes; it judges the generated pictures in evaluate.py.

Trained on rendered pictures only. Blur and noise are added so that it looks at shapes and colours and is not thrown off
by the softness of the VAE.
"""
import os

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import captions
import pictures
import scenes
from common import Trainer, autocast, progress, seed_all, to_tensor


def block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.GroupNorm(8, cout), nn.SiLU(),
                         nn.Conv2d(cout, cout, 3, padding=1), nn.GroupNorm(8, cout), nn.SiLU(), nn.MaxPool2d(2))


class Classifier(nn.Module):
    """Looks at a 64x64 copy; one output per attribute."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(block(3, 32), block(32, 64), block(64, 96), block(96, 128))
        self.heads = nn.ModuleList(nn.Linear(128 * 16, len(v)) for v in scenes.ATTRS.values())

    def forward(self, x):
        h = F.dropout(self.body(x).flatten(1), .2, self.training)
        return [head(h) for head in self.heads]


def small(x):
    return F.avg_pool2d(x, x.shape[-1] // 64)


def train(args):
    seed_all(args.seed + 9)
    images, attrs = pictures.load(args.work, args.pictures, progress)
    want = torch.tensor([captions.labels(a) for a in attrs])
    net = Classifier().to(args.device)
    t = Trainer("classifier", args, {"net": net}, lr=1e-3, steps=args.classifier_steps)

    def loss(rng, step):
        pick = np.sort(rng.integers(0, len(images), 64))
        x = small(to_tensor(images[pick], args.device))
        soft = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
        mixed = torch.rand(len(x), 1, 1, 1, device=x.device)
        x = x + mixed * (soft - x) + torch.rand(len(x), 1, 1, 1, device=x.device) * .1 * torch.randn_like(x)
        with autocast(args.device):
            outs = net(x)
        y = want[pick].to(args.device)
        return sum(F.cross_entropy(o.float(), y[:, i], ignore_index=-1) for i, o in enumerate(outs)) / len(outs)

    t.run(loss)
    return net.eval()


@torch.no_grad()
def agreement(net, images, asked, device="cpu"):
    """Share of right answers per attribute; `asked` holds dicts of the values asked for, absent ones not counted."""
    x = small(to_tensor(images, device))
    said = torch.stack([o.argmax(1) for o in net(x)], 1).cpu().numpy()
    table = {}
    for k, (name, values) in enumerate(scenes.ATTRS.items()):
        hits = [values[said[i, k]] == a[name] for i, a in enumerate(asked) if a.get(name) is not None]
        table[name] = (float(np.mean(hits)), len(hits))
    return table


def total(table):
    return sum(v * n for v, n in table.values()) / sum(n for _, n in table.values())
