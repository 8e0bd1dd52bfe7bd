"""Records the 2022 algorithm: its plans as numbers, its mixing, and whole transitions on the tiny checkpoints."""
import numpy as np
import torch

import networks
import philox_numpy
import tree_2022 as old
from common import randn, relative, save, save_json

SEEDS = (69731932, 504430820)  # the original's first example
FIRST, SECOND = "photo of a bright_blue sky, trending_on artstation", "an old painting of a strange house on a hill"
CASES = {"lowest": old.preset("lowest"), "low": old.preset("low"), "custom": (20, [0, 8, 14], [2, 3, 6])}


def describe(steps, indices, branches, scaler=2.0):
    plan = old.Plan.new(steps, indices, branches, scaler)
    levels = []
    for block, fractions in enumerate(plan.fractions):
        level = {"start": plan.starts[block], "stop": plan.starts[block + 1], "fractions": fractions.tolist(),
                 "guidance": old.guidance(fractions).tolist()}
        if block:
            nodes = [plan.parents(block, branch) for branch in range(len(fractions))]
            level |= {"left": [n[0] for n in nodes], "right": [n[1] for n in nodes], "mix": [n[2] for n in nodes]}
            # Fractions equal but for rounding to one of the level before: there the parents hang on the last bit (the mix is
            # then 0 or 1 but for 1e-15, so nothing else does).
            gaps = [np.abs(plan.fractions[block - 1] - f) for f in fractions]
            level["ties"] = [branch for branch, gap in enumerate(gaps) if ((gap > 0) & (gap < 1e-9)).any()]
        levels.append(level)
    return {"steps": steps, "indices": plan.starts[:-1], "branches": [len(f) for f in plan.fractions], "mid_compression": scaler,
            "cost": plan.cost(), "levels": levels, "order": plan.order()}


def quoted(plans):
    """The numbers that the project's reference notes quote for the presets at depth 0.65 and 360 frames."""
    wanted = {"lowest": ([0, 8], [2, 5], 36), "low": ([0, 10], [2, 7], 55), "medium": ([0, 20, 23, 27], [2, 4, 13, 45], 239),
              "high": ([0, 39, 42, 46, 49, 53, 57], [2, 3, 6, 11, 23, 45, 90], 686)}
    for name, (indices, branches, cost) in wanted.items():
        plan = plans[f"{name}.360"]
        assert (plan["indices"], plan["branches"], plan["cost"]) == (indices, branches, cost), (name, plan["indices"], plan["branches"], plan["cost"])
    ultra = plans["ultra.360"]
    assert (len(ultra["indices"]), ultra["branches"][-1], ultra["cost"]) == (11, 180, 1772)
    assert old.spacing(4, 2.0).tolist() == [0, 0.375, 0.625, 1] and old.spacing(5, 2.0).tolist() == [0, 0.375, 0.5, 0.625, 1]
    assert np.allclose(old.spacing(13, 2.0)[:7], [0, 0.1528, 0.2778, 0.375, 0.4444, 0.4861, 0.5], atol=1e-4)


def record_plans():
    plans = {f"{name}.{frames}": describe(*old.preset(name, frames)) for name in old.PRESETS for frames in (360, 240, 100)}
    quoted(plans)
    print(f"  nodes at a rounding tie: { {k: sum(len(level.get('ties', [])) for level in p['levels']) for k, p in plans.items()} }")
    for steps in (12, 15, 20, 25, 30, 40, 50, 100):
        plans[f"auto.{steps}"] = describe(steps, *old.autosetup(steps, 45))  # 45 leaves, depth 0.65
    plans["custom"] = describe(20, [0, 8, 14], [2, 3, 6])
    plans["custom_linear"] = describe(20, [0, 8, 14], [2, 3, 6], 1.5)
    plans["custom_prepended"] = describe(20, [8, 14], [3, 6])
    small = {k: v for k, v in plans.items() if not k.startswith(("ultra", "high"))}
    save_json("plans_2022", small)
    save_json("plans_2022_large", {k: v for k, v in plans.items() if k not in small})

    numbers = {"spacing": [{"n": n, "scaler": s, "fractions": old.spacing(n, s).tolist()} for s in (1.0, 1.69, 1.7, 2.0, 3.0) for n in (2, 3, 4, 5, 6, 7, 13)],
               "autosetup": [], "strengths": [], "ldm": {}, "failing": []}
    for steps in (12, 15, 20, 25, 30, 40, 50, 60, 100):
        for leaves in (5, 45, 180):
            for depth in (0.3, 0.5, 0.65, 0.8):
                indices, branches = old.autosetup(steps, leaves, depth)
                numbers["autosetup"].append({"steps": steps, "leaves": leaves, "depth": depth, "indices": indices, "branches": branches})
    for steps, strengths in ((30, [0.0, 0.65, 0.9]), (25, [0.0, 0.5, 0.7]), (15, [0.1, 0.5, 0.9]), (50, [0.25, 0.61, 0.85])):
        numbers["strengths"].append({"steps": steps, "strengths": strengths, "indices": [int(round(s * steps)) for s in strengths]})
    for branches in ([2, 5, 3], [2, 7, 4, 9]):
        plan = old.Plan.new(20, [0, 8, 14, 17][:len(branches)], branches)
        try:
            plan.order()
        except AssertionError:
            numbers["failing"].append({"steps": 20, "indices": plan.starts[:-1], "branches": branches})
    abar = old.alphas().astype(np.float32)
    for steps in (12, 15, 20, 25, 30, 40, 50, 100):
        t = old.timesteps(steps)
        assert len(t) == steps
        a_prev = np.concatenate([abar[:1], abar[t[:-1]]])
        # in the order of the steps, the noisiest first
        numbers["ldm"][steps] = {"timesteps": t[::-1].tolist(), "a_t": [float(a) for a in abar[t[::-1]]], "a_prev": [float(a) for a in a_prev[::-1]]}
    numbers["ldm_step_count"] = {n: len(old.timesteps(n)) for n in range(3, 130)}
    print(f"  step counts that differ: {[n for n, k in numbers['ldm_step_count'].items() if n != k]}")
    print(f"  timestep 1000 reached: {[n for n in range(3, 130) if old.timesteps(n)[-1] == 1000]}, failing {numbers['failing']}")
    save_json("numbers_2022", numbers)


def record_slerp():
    p, q = randn(81, 1, 4, 5, 6), randn(82, 1, 4, 5, 6)
    pairs = {"plain": (p, q), "identical": (p, p), "nearly": (p, p + 1e-3 * q), "opposite": (p, -p), "nearly_opposite": (p, -p + 1e-2 * q),
             "longer": (p, 5 * q), "scaled": (p, 3 * p), "large": (300 * p, 200 * q), "short": (randn(83, 3), randn(84, 3))}
    tensors = {"fractions": torch.tensor([0, 0.1, 0.5, 0.9, 1], dtype=torch.float64)}
    for name, (a, b) in pairs.items():
        tensors |= {f"{name}.p": a, f"{name}.q": b, f"{name}.out": torch.stack([old.slerp(a, b, f) for f in tensors["fractions"].tolist()])}
    save("slerp", tensors)


def record_transitions(kind, prediction):
    prompts = [p.replace("_", " ") for p in (FIRST, SECOND)]
    context = networks.contexts([*prompts, ""])
    first, second, unconditional = context[:1], context[1:2], context[2:]
    noises = [torch.from_numpy(philox_numpy.randn(seed, 4 * 16 * 16)).reshape(1, 4, 16, 16) for seed in SEEDS]
    tensors = {"first": first, "second": second, "unconditional": unconditional, "noise.0": noises[0], "noise.1": noises[1]}
    worst = 0.0
    for name, (steps, indices, branches) in CASES.items():
        plan = old.Plan.new(steps, indices, branches)
        done = old.run(plan, old.Sampler(networks.unet(kind), prediction, steps), noises, first, second, unconditional)
        exact = old.run(plan, old.Sampler(networks.unet(kind, torch.float64), prediction, steps), [n.double() for n in noises],
                        first.double(), second.double(), unconditional.double())
        last = len(plan.fractions) - 1
        leaves = torch.cat([done[last, k] for k in range(len(plan.fractions[last]))])
        tensors |= {f"{name}.fractions": torch.from_numpy(plan.fractions[last]), f"{name}.leaves": leaves}
        for block in range(last):
            tensors[f"{name}.block.{block}"] = torch.cat([done[block, k] for k in range(len(plan.fractions[block]))])
        error = max(relative(done[node], exact[node]) for node in done)
        worst = max(worst, error)
        print(f"  {kind} {name}: {len(leaves)} leaves, std {leaves.std(dim=(1, 2, 3)).tolist()[0]:.2f}, middle "
              f"{leaves[len(leaves) // 2].std():.2f}, f32 against f64 {error:.1e}")
    leaf = tensors["lowest.leaves"][2:3]
    decoded = networks.vae().decode(leaf / 0.18215).sample
    pixels = 255 * ((decoded + 1) / 2).clamp(0, 1)
    tensors["lowest.image.2"] = pixels[0].permute(1, 2, 0).to(torch.uint8)  # truncated, as the original does
    save(f"tree_2022_{kind}", tensors, first=FIRST, second=SECOND, seeds=SEEDS, guidance=4.0, damper=0.5, mid_compression=2.0, f32_error=worst)


def record():
    record_plans()
    record_slerp()
    record_transitions("base", "epsilon")
    record_transitions("v", "v_prediction")
