"""Records the 2023 algorithm: its plans, coefficients and guidance as numbers, and whole transitions on the tiny checkpoints."""
import torch

import networks
import philox_numpy
import tree_2022 as old
import tree_2023 as new
from common import relative, save, save_json
from tree_record import FIRST, SECOND, SEEDS

# steps, depth, pictures, branch-1 crossfeed, parental crossfeed; the third reaches beyond the last injection
CASES = {"default": (20, 0.65, 9, new.BRANCH1, new.PARENTAL), "deep": (12, 0.3, 7, new.BRANCH1, new.PARENTAL),
         "strong": (12, 0.25, 9, (0.5, 0.9, 0.5), (0.4, 1.0, 0.6)), "plain": (15, 0.4, 6, new.OFF, new.OFF)}


def record_numbers():
    numbers = {"stems": [], "coefficients": [], "guidance": [], "plans": [], "schedule": {}}
    # what the reference notes quote
    assert new.stems(30, 0.3, count=15)[1] == [1, 2, 2, 2, 2, 2, 2] and new.stems(30, 0.3, count=40)[1] == [2, 2, 2, 3, 5, 8, 16]
    limits = [{"count": n} for n in (3, 4, 5, 7, 9, 15, 40, 45, 180)] + [{"budget": b, "per_step": p} for b, p in ((0, 0), (12, 0.05), (15, 0.031), (3, 0.2), (1, 1))]
    for steps in (4, 12, 15, 20, 25, 30, 50, 100):
        for depth in (0.0, 0.25, 0.3, 0.5, 0.65, 0.9, 0.99):
            for limit in limits:
                entry = {"steps": steps, "depth": depth} | limit
                try:
                    entry["injections"], entry["stems"] = new.stems(steps, depth, **limit)
                except IndexError:
                    pass
                numbers["stems"].append(entry)
    for steps in (12, 30, 50):
        for feed in (new.BRANCH1, new.PARENTAL, (0.5, 0.9, 0.5), (1.0, 1.0, 1.0), (0.3, 0.05, 0.0), (0.2, 0.0, 1.0)):
            for start in (None, 3, 9, 11):
                numbers["coefficients"].append({"steps": steps, "feed": feed, "start": start, "values": new.coefficients(steps, *feed, start)})
    for scale, damper in ((4.0, 0.5), (7.5, 1.0), (7.5, 0.1), (1.5, 0.3)):
        for fraction in (0.0, 0.1, 0.25, 0.5, 0.625, 1.0):
            numbers["guidance"].append([scale, damper, fraction, float(new.guidance(fraction, scale, damper))])
    for steps, depth, count in ((30, 0.3, 15), (30, 0.65, 45), (12, 0.3, 7), (20, 0.65, 3), (100, 0.25, 100)):
        at, many = new.stems(steps, depth, count=count)
        branches = new.plan(steps, at, many).branches
        numbers["plans"].append({"steps": steps, "depth": depth, "count": count, "fractions": [b.fraction for b in branches],
                                 "starts": [b.start for b in branches], "parents": [b.parents for b in branches]})
    for steps in range(3, 130):
        numbers["schedule"][steps] = len(old.timesteps(steps)) if old.timesteps(steps)[-1] < 1000 else 0
    save_json("numbers_2023", numbers)


def record_transitions(kind, prediction):
    prompts = [p.replace("_", " ") for p in (FIRST, SECOND)]
    context = networks.contexts([*prompts, ""])
    first, second, unconditional = context[:1], context[1:2], context[2:]
    noises = [torch.from_numpy(philox_numpy.randn(seed, 4 * 16 * 16)).reshape(1, 4, 16, 16) for seed in SEEDS]
    tensors = {"first": first, "second": second, "unconditional": unconditional, "noise.0": noises[0], "noise.1": noises[1]}
    worst = 0.0
    for name, (steps, depth, count, branch1, parental) in CASES.items():
        at, many = new.stems(steps, depth, count=count)
        tree = new.run(steps, at, many, old.Sampler(networks.unet(kind), prediction, steps), noises, first, second, unconditional, branch1, parental)
        exact = new.run(steps, at, many, old.Sampler(networks.unet(kind, torch.float64), prediction, steps), [n.double() for n in noises],
                        first.double(), second.double(), unconditional.double(), branch1, parental)
        assert len(tree.branches) == count
        error = max(relative(a.states[-1], b.states[-1]) for a, b in zip(tree.branches, exact.branches))
        worst = max(worst, error)
        tensors |= {f"{name}.fractions": torch.tensor([b.fraction for b in tree.branches], dtype=torch.float64),
                    f"{name}.leaves": torch.cat([b.states[-1] for b in tree.branches])}
        print(f"  {kind} {name}: {list(zip(at, many))}, f32 against f64 {error:.1e}")
    save(f"tree_2023_{kind}", tensors, first=FIRST, second=SECOND, seeds=SEEDS, guidance=4.0, damper=0.5, f32_error=worst)


def record():
    record_numbers()
    record_transitions("base", "epsilon")
    record_transitions("v", "v_prediction")
