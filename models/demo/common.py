"""What the training stages share: checkpoints, the learning rate's course, progress bars."""
import contextlib
import math
import os
import random
import time

import numpy as np
import torch
from safetensors.torch import load_file
from tqdm import tqdm

SAVE_EVERY = 300.0  # seconds
CPU_BF16 = torch.cpu._is_avx512_bf16_supported()


def progress(iterable=None, **more):
    return tqdm(iterable, mininterval=10, dynamic_ncols=False, ncols=110, **more)


def autocast(device):
    """bfloat16 where the hardware multiplies in it; elsewhere it is emulated, ten times slower than f32."""
    return torch.autocast(device, torch.bfloat16, enabled=device != "cpu" or CPU_BF16)


def rate(step, steps, warmup=300, floor=0.02):
    """Factor of the learning rate: linear warm-up, then half a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    t = min(1.0, (step - warmup) / max(1, steps - warmup))
    return floor + (1 - floor) * .5 * (1 + math.cos(math.pi * t))


class Threads:
    """Picks the number of threads that is fastest just now.

    Beside other work on few cores, one thread beats two of which one always waits for a busy core.
    """

    def __init__(self, cores):
        self.choices = sorted({1, cores})
        self.pace = {n: None for n in self.choices}
        self.turn = 0

    def begin(self):
        self.turn += 1
        best = min(self.choices, key=lambda n: self.pace[n] or 0)
        probe = self.turn % 40 < 2
        self.now = self.choices[self.turn // 40 % len(self.choices)] if probe else best
        torch.set_num_threads(self.now)
        self.start = time.time()

    def end(self):
        took = time.time() - self.start
        self.pace[self.now] = took if self.pace[self.now] is None else .5 * self.pace[self.now] + .5 * took


class Trainer:
    """A loop over steps that can be stopped at any time and goes on where its checkpoint stands.

    The batches of step n depend on the seed and n alone, so a run that was stopped ends with the same weights.
    """

    def __init__(self, name, args, modules, lr, steps, ema=None, weight_decay=0.01):
        self.name, self.args, self.modules, self.lr, self.steps, self.ema = name, args, modules, lr, steps, ema
        self.path = os.path.join(args.work, name + ".pt")
        params = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
        self.opt = torch.optim.AdamW(params, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay)
        self.params, self.step, self.seconds = params, 0, 0.0
        self.average = {k: v.detach().clone() for k, v in modules[ema].state_dict().items()} if ema else {}
        if os.path.exists(self.path):
            self.load()
        self.stop_at = time.time() + 60 * args.minutes

    def load(self):
        state = torch.load(self.path, map_location=self.args.device)
        for k, m in self.modules.items():
            m.load_state_dict(state["modules"][k])
        self.opt.load_state_dict(state["opt"])
        self.step, self.seconds, self.average = state["step"], state["seconds"], state["average"]

    def save(self):
        state = {"modules": {k: m.state_dict() for k, m in self.modules.items()}, "opt": self.opt.state_dict(),
                 "step": self.step, "seconds": self.seconds, "average": self.average, "lr": self.lr, "steps": self.steps}
        torch.save(state, self.path + ".new")
        os.replace(self.path + ".new", self.path)

    def done(self):
        return self.step >= self.steps

    def run(self, loss_of, report=None, every=500):
        """`loss_of(rng, step)` gives the loss of one step, `report(step)` a line to print now and then."""
        last, began, shown = time.time(), time.time() - self.seconds, 0.0
        threads = Threads(os.cpu_count())
        bar = progress(total=self.steps, initial=self.step, desc=self.name)
        while not self.done() and time.time() < self.stop_at:
            threads.begin()
            rng = np.random.default_rng([self.args.seed, 77, self.step])
            torch.manual_seed(self.args.seed * 1_000_003 + self.step)
            for group in self.opt.param_groups:
                group["lr"] = self.lr * rate(self.step, self.steps)
            loss = loss_of(rng, self.step)
            self.opt.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.params, 1.0)
            self.opt.step()
            self.step += 1
            shown = loss.item() if self.step == 1 else .98 * shown + .02 * loss.item()
            if self.ema:
                self.update_average()
            threads.end()
            bar.update()
            bar.set_postfix(loss=f"{shown:.4f}", threads=threads.now, refresh=False)
            self.seconds = time.time() - began
            if report and self.step % every == 0:
                bar.write(f"{self.name} {self.step} {self.seconds:.0f}s loss {shown:.4f} {report(self.step)}")
            if time.time() - last > SAVE_EVERY:
                self.save()
                last = time.time()
        self.save()
        bar.close()

    @torch.no_grad()
    def update_average(self):
        decay = min(0.9990, (1 + self.step) / (10 + self.step))
        live = self.modules[self.ema].state_dict()
        torch._foreach_lerp_([self.average[k] for k in live], list(live.values()), 1 - decay)

    @contextlib.contextmanager
    def averaged(self):
        """The averaged weights in place of the live ones, for looking at results."""
        module = self.modules[self.ema]
        live = {k: v.clone() for k, v in module.state_dict().items()}
        module.load_state_dict(self.average)
        yield module.eval()
        module.load_state_dict(live)
        module.train()


def warm(args, module, *folders):
    """Gives `module` the weights that an earlier run has left in --out, where --on asks for that."""
    if args.on:
        path = os.path.join(args.out, *folders)
        state = load_file(os.path.join(path, next(f for f in os.listdir(path) if f.endswith(".safetensors"))))
        own = set(module.state_dict())
        bare = {k if k in own else k.removeprefix("text_model."): v.float() for k, v in state.items()}
        module.load_state_dict(bare)
    return module.to(args.device)


def seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def to_tensor(pictures, device="cpu"):
    """8-bit pictures [n, h, w, 3] as floats [n, 3, h, w] in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
