"""Records LPIPS 0.1 on AlexNet, by the `lpips` package itself (0.1.4), with weights that a formula gives: neither the trunk's
trained weights nor the package's heads are needed, and nothing but distances is stored.

`value(stream, index)` is in tests/lpips.rs, too: SplitMix64 of stream * 2^40 + index, its upper 24 bits as a number of -1 to 1.
"""
import sys
import types

import numpy as np
import torch
from torch import nn

from common import save_json

SIZES = [(64, 64), (48, 80), (128, 96)]


def value(stream, count):
    with np.errstate(over="ignore"):
        z = np.uint64(stream) * np.uint64(1 << 40) + np.arange(count, dtype=np.uint64)
        z = (z + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(40)).astype(np.float64) / 2**23 - 1).astype(np.float32)


def alexnet(pretrained=False):
    """torchvision's AlexNet as far as LPIPS uses it, so that torchvision need not be there."""
    relu, pool = (lambda: nn.ReLU()), (lambda: nn.MaxPool2d(3, 2))
    layers = [nn.Conv2d(3, 64, 11, 4, 2), relu(), pool(), nn.Conv2d(64, 192, 5, padding=2), relu(), pool(),
              nn.Conv2d(192, 384, 3, padding=1), relu(), nn.Conv2d(384, 256, 3, padding=1), relu(),
              nn.Conv2d(256, 256, 3, padding=1), relu(), pool()]
    return types.SimpleNamespace(features=nn.Sequential(*layers))


def package():
    models = types.ModuleType("torchvision.models")
    models.alexnet = alexnet
    vision = types.ModuleType("torchvision")
    vision.models = models
    ndimage = types.ModuleType("scipy.ndimage")
    ndimage.zoom = None
    scipy = types.ModuleType("scipy")
    scipy.ndimage = ndimage
    sys.modules |= {"torchvision": vision, "torchvision.models": models, "scipy": scipy, "scipy.ndimage": ndimage}
    import lpips
    return lpips


def record():
    metric = package().LPIPS(net="alex", pretrained=False, pnet_rand=True, verbose=False)
    for index, number in enumerate((0, 3, 6, 8, 10)):
        conv = getattr(metric.net, f"slice{index + 1}")._modules[str(number)]
        fan = conv.weight[0].numel()
        # Such that activations neither vanish nor grow: uniform numbers of variance 2 / fan.
        scale = np.float32((6 / fan) ** 0.5)
        conv.weight.copy_(torch.from_numpy(value(3 * index, conv.weight.numel()) * scale).view_as(conv.weight))
        conv.bias.copy_(torch.from_numpy(value(3 * index + 1, conv.bias.numel()) * np.float32(0.1)))
        head = metric.lins[index].model[1].weight
        head.copy_(torch.from_numpy(np.abs(value(3 * index + 2, head.numel()))).view_as(head))
    out = []
    for number, (height, width) in enumerate(SIZES):
        p, q = (torch.from_numpy(value(100 + 2 * number + k, 3 * height * width)).view(1, 3, height, width) for k in (0, 1))
        near = p + 0.05 * (q - p)
        out.append({"height": height, "width": width, "far": metric(p, q).item(), "near": metric(p, near).item()})
    save_json("lpips", out)
