"""The 2023 version of latent blending (revision 7933b99 of its project) as plain functions, written from its description.

Pictures are put in one by one: at each of some diffusion steps a number of them, each in the middle of the gap whose two
pictures differ most, started from and drawn to what lies between its two nearest elders, and run to the end. The second
keyframe is drawn to the first one's trajectory. Differing most is LPIPS there; here it is a function that the caller gives,
by default the width of the gap.
"""
from dataclasses import dataclass, field

import numpy as np

import tree_2022 as old

BRANCH1, PARENTAL, OFF = (0.1, 0.6, 0.8), (0.1, 0.8, 0.8), (0.0, 0.0, 0.0)


def stems(steps, depth, count=None, budget=None, per_step=0.0):
    """(injection steps, pictures put in at each), bounded by a count of pictures with keyframes, or by a time."""
    at = np.arange(int(round(steps * depth)), steps - 1, 3)
    if len(at) == 0 or at[0] == 0:
        raise IndexError("no step to put a picture in")
    many, allowed, first = np.ones(len(at), dtype=int), None if count is None else count - 2, True
    while True:
        seconds = ((steps - at) * many).sum() * per_step + 0.15 * many.sum()
        grown = [k for k in range(len(many) - 1) if many[k + 1] / many[k] >= 2]
        many[grown[0] if grown else -1] += 1
        if allowed is None:
            if seconds > budget:
                break
        elif many.sum() >= allowed:
            if first:
                at = np.linspace(at[0], at[-1], allowed).astype(int)
                many = np.ones(allowed, dtype=int)
            break
        first = False
    return at.tolist(), many.tolist()


def coefficients(steps, power, reach, decay, start=None):
    """How far to go towards the other trajectory before each step; `start` is where a branch begins, None for a keyframe."""
    stop, head = int(round(steps * reach)), 0 if start is None else start
    out = [power] * head + (np.linspace(power, power * decay, stop - head).tolist() if stop > head else [])
    return out + [0.0] * (steps - len(out))


def guidance(fraction, scale=4.0, damper=0.5):
    return scale - (scale * (1 - damper) - 1) * (1 - np.abs(fraction - 0.5) / 0.5)


@dataclass
class Branch:
    fraction: float
    start: int
    states: list  # after each step; None before the start
    parents: tuple = ()  # fractions of its two elders, and the share of the second
    picture: object = None


@dataclass
class Tree:
    branches: list = field(default_factory=list)  # in the order of their fractions

    def widest(self):
        return [b.fraction - a.fraction for a, b in zip(self.branches, self.branches[1:])]

    def place(self, start, distances):
        """Where the next picture goes, and the indices of its two elders."""
        gap = int(np.argmax(distances))
        left, right = gap, gap + 1
        while self.branches[left].start >= start:
            left -= 1
        while self.branches[right].start >= start:
            right += 1
        return (self.branches[gap].fraction + self.branches[gap + 1].fraction) / 2, left, right

    def insert(self, branch):
        behind = sum(b.fraction <= branch.fraction for b in self.branches)
        self.branches.insert(behind, branch)


def plan(steps, at, many):
    """Branches without latents."""
    tree = Tree([Branch(0.0, 0, []), Branch(1.0, 0, [])])
    for start, count in zip(at, many):
        for _ in range(count):
            fraction, left, right = tree.place(start, tree.widest())
            a, b = tree.branches[left].fraction, tree.branches[right].fraction
            tree.insert(Branch(fraction, start, [], (a, b, (fraction - a) / (b - a))))
    return tree


def diffuse(sampler, x, start, steps, context, unconditional, scale, others=None, shares=None):
    """The states after each step. `others` are the states to be drawn to, before each step those after the one before."""
    states = [None] * start
    for i in range(start, steps):
        if others is not None and i > 0 and shares[i] > 0:
            x = old.slerp(x, others[i - 1], shares[i]).to(sampler.dtype)
        x = sampler.step(x, i, context, unconditional, float(scale))
        states.append(x)
    return states


def run(steps, at, many, sampler, noises, first, second, unconditional, branch1=BRANCH1, parental=PARENTAL, scale=4.0, damper=0.5,
        distances=Tree.widest, show=lambda x: None):
    """The whole tree. A sampler whose schedule has another number of steps is one that the original fails with."""
    assert len(sampler.times) == steps, (len(sampler.times), steps)
    one = diffuse(sampler, noises[0], 0, steps, first, unconditional, scale)
    two = diffuse(sampler, noises[1], 0, steps, second, unconditional, scale, one, coefficients(steps, *branch1))
    tree = Tree([Branch(0.0, 0, one, picture=show(one[-1])), Branch(1.0, 0, two, picture=show(two[-1]))])
    for start, count in zip(at, many):
        for _ in range(count):
            fraction, left, right = tree.place(start, distances(tree))
            a, b = tree.branches[left], tree.branches[right]
            share = (fraction - a.fraction) / (b.fraction - a.fraction)
            both = [p is not None and q is not None for p, q in zip(a.states, b.states)]
            between = [old.slerp(p, q, share).to(sampler.dtype) if there else None for there, p, q in zip(both, a.states, b.states)]
            context = (1 - fraction) * first + fraction * second
            states = diffuse(sampler, between[start - 1], start, steps, context, unconditional, guidance(fraction, scale, damper),
                             between, coefficients(steps, *parental, start))
            tree.insert(Branch(fraction, start, states, (a.fraction, b.fraction, share), show(states[-1])))
    return tree
