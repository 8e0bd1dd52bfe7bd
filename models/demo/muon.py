"""An optimiser for few steps: matrices and convolutions move by orthogonalised momentum, the rest by AdamW.

A step then turns all directions of a weight alike, the rarely seen ones too, so that far fewer steps are needed.
"""
import torch


def orthogonal(m):
    """About U V' of the singular value decomposition of each matrix [n, rows, columns], by five Newton-Schulz rounds."""
    turned = m.shape[-2] > m.shape[-1]
    x = m.bfloat16().mT if turned else m.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.mT if turned else x).float()


class Muon(torch.optim.Optimizer):
    """Steps as long as AdamW's of the same learning rate."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            alike = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["mean"] = torch.zeros_like(p)
                state["mean"].lerp_(p.grad, 1 - group["momentum"])
                ahead = torch.lerp(p.grad, state["mean"], group["momentum"])
                alike.setdefault((p.shape[0], p[0].numel()), []).append((p, ahead.flatten(1)))
            for shape, pairs in alike.items():
                moves = orthogonal(torch.stack([a for _, a in pairs])) * (.2 * max(shape) ** .5)
                for (p, _), move in zip(pairs, moves):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(move.view_as(p), alpha=-group["lr"])


class Both:
    """Muon for weights of two and more dimensions, AdamW for the rest and for `apart`, as one optimiser."""

    def __init__(self, params, lr, weight_decay, apart=()):
        names = {id(p) for p in apart}
        wide = [p for p in params if p.ndim > 1 and id(p) not in names]
        rest = [p for p in params if p.ndim < 2 or id(p) in names]
        self.parts = [Muon(wide, lr, weight_decay=weight_decay),
                      torch.optim.AdamW(rest, lr=lr, betas=(.9, .99), weight_decay=0.0, fused=True)]
        self.param_groups = sum([o.param_groups for o in self.parts], [])

    def zero_grad(self, set_to_none=True):
        for o in self.parts:
            o.zero_grad(set_to_none)

    def step(self):
        for o in self.parts:
            o.step()

    def state_dict(self):
        return [o.state_dict() for o in self.parts]

    def load_state_dict(self, states):
        for o, s in zip(self.parts, states):
            o.load_state_dict(s)
        self.param_groups = sum([o.param_groups for o in self.parts], [])
