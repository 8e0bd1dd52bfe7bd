"""What the training stages share: checkpoints, the learning rate's course, progress bars."""
import contextlib
import datetime
import math
import os
import random
import signal
import time

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from tqdm import tqdm

import muon

SAVE_EVERY = 300.0  # seconds
CPU_BF16 = torch.cpu._is_avx512_bf16_supported()


def progress(iterable=None, **more):
    return tqdm(iterable, mininterval=10, dynamic_ncols=False, ncols=110, **more)


def autocast(device):
    """bfloat16 where the hardware multiplies in it; elsewhere it is emulated, ten times slower than f32."""
    return torch.autocast(device, torch.bfloat16, enabled=device != "cpu" or CPU_BF16)


def workers():
    """(which worker this is, how many there are)."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def join_workers(args):
    """Lets `args.workers` processes train as one, each on its share of every batch."""
    if args.workers > 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        dist.init_process_group("gloo", init_method="file://" + os.path.abspath(os.path.join(args.work, "workers")),
                                rank=args.rank, world_size=args.workers, timeout=datetime.timedelta(hours=6))


def all_done():
    """Waits for the other workers."""
    if dist.is_initialized():
        dist.barrier()


def in_parts(count, size, made):
    """`made(first, last)` of all parts of `size` of 0..count in their order, shared among the workers."""
    rank, share = workers()
    own = {i: made(i, min(i + size, count)) for i in progress(range(rank * size, count, share * size), disable=rank > 0)}
    parts = [own]
    if share > 1:
        parts = [None] * share
        dist.all_gather_object(parts, own)
    both = {k: v for p in parts for k, v in p.items()}
    return [both[k] for k in sorted(both)]


def rate(step, part, warmup=40, floor=0.01):
    """Factor of the learning rate: linear warm-up, and half a cosine down to `floor` at the end (`part` = 1)."""
    return min(1.0, (step + 1) / warmup) * (floor + (1 - floor) * .5 * (1 + math.cos(math.pi * min(1.0, part))))


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

    The batches of step n depend on the seed, n and the number of workers alone, so a run that was stopped ends with
    the same weights. Several workers each draw a share of the batch and average their gradients.
    """

    def __init__(self, name, args, modules, lr, steps, ema=None, weight_decay=0.01, hold=0.999):
        self.name, self.args, self.modules, self.lr, self.steps, self.ema = name, args, modules, lr, steps, ema
        self.path = os.path.join(args.work, name + ".pt")
        self.hold = hold  # how slowly the averaged weights follow
        params = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
        self.opt = muon.Both(params, lr, weight_decay)
        self.params, self.step, self.seconds = params, 0, 0.0
        self.average = {k: v.detach().clone() for k, v in modules[ema].state_dict().items()} if ema else {}
        if os.path.exists(self.path):
            self.load()

    def load(self):
        state = torch.load(self.path, map_location=self.args.device)
        for k, m in self.modules.items():
            m.load_state_dict(state["modules"][k])
        self.opt.load_state_dict(state["opt"])
        self.step, self.seconds, self.average = state["step"], state["seconds"], state["average"]

    def save(self):
        state = {"modules": {k: m.state_dict() for k, m in self.modules.items()}, "opt": self.opt.state_dict(),
                 "step": self.step, "seconds": self.seconds, "average": self.average, "lr": self.lr, "steps": self.steps}
        if workers()[0] > 0:
            return
        torch.save(state, self.path + ".new")
        os.replace(self.path + ".new", self.path)

    def part(self):
        """How much of the stage lies behind: by steps or, where --minutes ends it sooner, by time."""
        return max(self.step / self.steps if self.steps else 1.0, self.seconds / (60 * self.args.minutes))

    def together(self):
        """The mean of the workers' gradients for all of them, and the first one's clock."""
        if workers()[1] == 1:
            return
        flat = torch.cat([p.grad.flatten() for p in self.params])
        dist.all_reduce(flat)
        flat /= workers()[1]
        for p, g in zip(self.params, flat.split([p.numel() for p in self.params])):
            p.grad.copy_(g.view_as(p))
        clock = torch.tensor([self.seconds, self.stop], dtype=torch.float64)
        dist.broadcast(clock, 0)
        self.seconds, self.stop = clock[0].item(), bool(clock[1])

    def done(self):
        return self.part() >= 1

    def run(self, loss_of, report=None, every=500):
        """`loss_of(rng, step)` gives the loss of one step, `report(step)` a line to print now and then."""
        last, began, shown = time.time(), time.time() - self.seconds, 0.0
        rank, count = workers()
        self.stop = False
        for kind in (signal.SIGTERM, signal.SIGINT):
            signal.signal(kind, self.stop_soon if rank == 0 else signal.SIG_IGN)
        threads = Threads(max(1, os.cpu_count() // count))
        bar = progress(total=self.steps, initial=self.step, desc=self.name, disable=rank > 0)
        while not self.done() and not self.stop:
            threads.begin()
            rng = np.random.default_rng([self.args.seed, 77, self.step, rank][:4 if rank else 3])
            torch.manual_seed(self.args.seed * 1_000_003 + self.step + 500_000_000 * rank)
            for group in self.opt.param_groups:
                group["lr"] = self.lr * rate(self.step, self.part())
            loss = loss_of(rng, self.step)
            self.opt.zero_grad(set_to_none=True)
            loss.backward()
            self.seconds = time.time() - began
            self.together()
            torch.nn.utils.clip_grad_norm_(self.params, 1.0)
            self.opt.step()
            self.step += 1
            shown = loss.item() if self.step == 1 else .98 * shown + .02 * loss.item()
            if self.ema:
                self.update_average()
            threads.end()
            bar.update()
            bar.set_postfix(loss=f"{shown:.4f}", threads=threads.now, refresh=False)
            if report and self.step % every == 0 and rank == 0:
                bar.write(f"{self.name} {self.step} {self.seconds:.0f}s loss {shown:.4f} {report(self.step)}")
            if time.time() - last > SAVE_EVERY:
                self.save()
                last = time.time()
        self.save()
        bar.close()
        for kind in (signal.SIGTERM, signal.SIGINT):
            signal.signal(kind, signal.SIG_DFL)
        if self.stop:
            raise SystemExit("stopped; the same command goes on")

    def stop_soon(self, *_):
        """Ends all workers after this step, which is saved."""
        self.stop = True

    @torch.no_grad()
    def update_average(self):
        decay = min(self.hold, (1 + self.step) / (10 + self.step))
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
