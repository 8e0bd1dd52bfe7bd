"""The 2022 version of latent blending (revision b99d18f of its project) as plain functions, written from its description.

Its choices are kept, good or not: the sampler gets N-1 steps and a last step to abar[0]; fractions crowd around one half;
a leaf's two parents are its neighbours in the level before; latents are mixed spherically as one long vector, prompts
linearly; guidance sinks linearly towards the middle. Numbers first (Plan), then latents (run).
"""
from dataclasses import dataclass

import numpy as np
import torch

PRESETS = {"lowest": (12, lambda frames: 5), "low": (15, lambda frames: frames // 16), "medium": (30, lambda frames: frames // 8),
           "high": (60, lambda frames: frames // 4), "ultra": (100, lambda frames: frames // 2)}


def spacing(n, scaler):
    """n fractions from 0 to 1, symmetric, denser in the middle; below 1.7 they are simply even."""
    if scaler < 1.7:
        return np.linspace(0, 1, n)
    half = np.abs(np.linspace(1, 0, n // 2 + 1) ** scaler / 2 - 0.5)
    if n % 2:
        return np.concatenate([half, 1 - half[-2::-1]])
    half = half[:-1]
    return np.concatenate([half, 1 - half[::-1]])


def autosetup(steps, leaves, depth=0.65, mindist=3):
    """Where to inject and how many branches: levels from `depth` to three steps before the end, thinned out."""
    first, last, count = int(np.round(steps * depth)), steps - 3, steps // 5 - 1
    indices = [0] + [int(i) for i in np.linspace(first, last, count)]
    branches = [int(b) for b in np.round(np.logspace(np.log10(2), np.log10(leaves), count + 1))]
    kept = [(indices[0], branches[0])]
    for pair in zip(indices[1:], branches[1:]):
        if pair[0] - kept[-1][0] >= mindist:
            kept.append(pair)
    return [i for i, _ in kept], [b for _, b in kept]


def preset(name, frames=360, depth=0.65):
    steps, leaves = PRESETS[name]
    return steps, *autosetup(steps, leaves(frames), depth)


def parents(fraction, before):
    """Neighbours in the level before: the last one not beyond `fraction`, the first one beyond it."""
    before = np.asarray(before)
    distance = fraction - before
    left = np.argmin(np.where(distance < 0, np.inf, distance))
    right = np.argmin(np.where(-distance <= 0, np.inf, -distance))  # none beyond: all infinite, so the first
    return int(min(left, right)), int(max(left, right))


def guidance(fraction, scale=4.0, damper=0.5):
    return scale - scale * (1 - damper) * (1 - np.abs(fraction - 0.5) / 0.5)


@dataclass
class Plan:
    steps: int
    starts: list  # first step of each block, and the number of steps behind the last
    fractions: list  # of each block

    @classmethod
    def new(cls, steps, indices, branches, scaler=2.0):
        indices, branches = list(indices), list(branches)
        if indices[0] != 0:
            indices, branches = [0] + indices, [2] + branches
        assert branches[0] == 2 and max(indices) < steps
        return cls(steps, indices + [steps], [spacing(n, scaler) for n in branches])

    def parents(self, block, branch):
        """(left, right, mix) for a node of block 1 and on."""
        f, before = self.fractions[block][branch], self.fractions[block - 1]
        left, right = parents(f, before)
        return left, right, float((f - before[left]) / (before[right] - before[left]))

    def order(self):
        """The first keyframe's chain, then leaf after leaf, each behind those right ancestors that are still missing."""
        last, seen = len(self.fractions) - 1, set()
        out = [(block, 0) for block in range(last + 1)]
        seen.update(out)
        for leaf in range(1, len(self.fractions[last])):
            stem, branch = [(last, leaf)], leaf
            seen.add((last, leaf))
            for block in range(last, 0, -1):
                left, right, _ = self.parents(block, branch)
                if (block - 1, left) not in seen:
                    raise AssertionError(f"parent {left} of block {block - 1} was never scheduled")
                if (block - 1, right) not in seen:
                    seen.add((block - 1, right))
                    stem.append((block - 1, right))
                branch = right
            out += stem[::-1]
        return out

    def cost(self):
        return sum(len(f) * (b - a) for f, a, b in zip(self.fractions, self.starts, self.starts[1:]))


def slerp(p, q, t):
    """Along the arc between two tensors taken as one vector each; norms go along with the same weights."""
    a, b = p.double(), q.double()
    cosine = ((a * b).sum() / (torch.linalg.norm(a) * torch.linalg.norm(b))).clamp(-1 + 1e-7, 1 - 1e-7)
    angle = torch.arccos(cosine)
    out = torch.sin(angle - angle * t) / torch.sin(angle) * a + torch.sin(angle * t) / torch.sin(angle) * b
    return out.to(torch.float16 if p.dtype == torch.float16 else torch.float32)


def alphas():
    """abar of the 1000 training steps: computed in f64, then rounded to f32."""
    betas = np.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000, dtype=np.float64) ** 2
    return np.cumprod(1 - betas)


def timesteps(steps):
    """Ascending. A schedule for N-1 steps has N of them wherever 1000 // (N-1) works out; the code never checks."""
    return np.arange(0, 1000, 1000 // (steps - 1)) + 1


class Sampler:
    """DDIM without noise as the 2022 software's library did it, in the precision of the UNet."""

    def __init__(self, unet, prediction, steps):
        self.unet, self.prediction, self.dtype = unet, prediction, unet.dtype
        abar = alphas()
        as_model = lambda v: torch.from_numpy(v).float().to(self.dtype)
        self.abar, self.root, self.root_rest = as_model(abar), as_model(np.sqrt(abar)), as_model(np.sqrt(1 - abar))
        self.times = timesteps(steps)

    def step(self, x, i, context, unconditional, scale):
        index = len(self.times) - 1 - i
        t = int(self.times[index])
        if scale != 1.0:
            pair = self.unet(torch.cat([x, x]), t, encoder_hidden_states=torch.cat([unconditional, context])).sample
            out = pair[:1] + scale * (pair[1:] - pair[:1])
        else:
            out = self.unet(x, t, encoder_hidden_states=context).sample
        a, before = self.abar[t], self.abar[self.times[index - 1]] if index else self.abar[0]
        if self.prediction == "v_prediction":
            eps, x0 = self.root[t] * out + self.root_rest[t] * x, self.root[t] * x - self.root_rest[t] * out
        else:
            eps, x0 = out, (x - (1 - a).sqrt() * out) / a.sqrt()
        return before.sqrt() * x0 + (1 - before).sqrt() * eps

    def block(self, x, start, stop, context, unconditional, scale):
        for i in range(start, min(stop, len(self.times))):
            x = self.step(x, i, context, unconditional, scale)
        return x


def run(plan, sampler, noises, first, second, unconditional, scale=4.0, damper=0.5):
    """Every node's latent at the end of its block, keyed (block, branch), in the order of computation."""
    done = {}
    for block, branch in plan.order():
        f = plan.fractions[block][branch]
        context = (1 - f) * first + f * second
        if block == 0:
            x = noises[branch]
        else:
            left, right, mix = plan.parents(block, branch)
            if f == 0:  # the first keyframe's chain runs before the second has begun, and needs nothing of it
                right = left
            x = slerp(done[block - 1, left], done[block - 1, right], mix).to(sampler.dtype)
        done[block, branch] = sampler.block(x, plan.starts[block], plan.starts[block + 1], context, unconditional,
                                            float(guidance(f, scale, damper)))
    return done
