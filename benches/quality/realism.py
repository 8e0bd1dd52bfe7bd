"""How real the frames of the benchmark of quality look to one who has seen rendered scenes only.

    cargo bench --bench quality -- --realism SCRATCH
    python benches/quality/realism.py --out target/quality/FINGERPRINT --work SCRATCH       # the same by itself

Reads the strips `OUT/strips/*.png` that the benchmark wrote, and adds `OUT/realism.json`, which its tables then include.
Strips that the same classifier has looked at before are not looked at again.
Needs torch, diffusers, numpy and pillow (as models/demo does). Two figures for each frame, both by the classifier of
models/demo/classifier.py, which is trained here from its seed on pictures of models/demo/scenes.py alone, at the first call:

confidence  the largest probability of each attribute, their mean: a picture between two scenes leaves it in doubt
manifold    the distance to the nearest rendered picture in the classifier's features (each divided by its deviation), divided
            by the median of the same over rendered pictures that were held out: 1 is what a rendered picture has
"""
import argparse
import glob
import json
import os
import sys

import numpy as np
import torch
from PIL import Image

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "models", "demo"))
import classifier  # noqa: E402
import pictures  # noqa: E402
from common import to_tensor  # noqa: E402


@torch.no_grad()
def looked_at(net, images):
    """Confidence [n] and features [n, f] of 8-bit pictures."""
    sure, features = [], []
    for i in range(0, len(images), 64):
        x = classifier.small(to_tensor(images[i:i + 64]))
        h = net.body(x).flatten(1)
        sure.append(torch.stack([head(h).softmax(1).max(1).values for head in net.heads], 1).mean(1))
        features.append(h)
    return torch.cat(sure).numpy(), torch.cat(features)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True, help="the benchmark's folder of a model")
    p.add_argument("--work", required=True, help="keeps rendered pictures and the classifier between calls; that of models/demo will do")
    p.add_argument("--pictures", type=int, default=20000)
    p.add_argument("--classifier-steps", type=int, default=600)
    p.add_argument("--held-out", type=int, default=300)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    args = p.parse_args()
    args.seed, args.device, args.minutes, args.on = 20, "cpu", 600, False
    os.makedirs(args.work, exist_ok=True)
    net = classifier.train(args)
    torch.set_num_threads(args.threads)

    rendered, _ = pictures.load(args.work, args.pictures, lambda x, **_: x)
    held, attrs = pictures.held_out(args.held_out)
    table = classifier.agreement(net, held, attrs)
    _, known = looked_at(net, np.asarray(rendered))
    scale = known.std(0) + 1e-6
    known = known / scale

    def nearest(features):
        return torch.cat([torch.cdist(f / scale, known).min(1).values for f in features.split(64)]).numpy()

    sure_held, features_held = looked_at(net, held)
    own = float(np.median(nearest(features_held)))
    found = {"classifier": {"accuracy": classifier.total(table), "confidence": float(sure_held.mean()),
                            "pictures": args.pictures, "steps": args.classifier_steps}}
    # What the same classifier has looked at before stays.
    result = os.path.join(args.out, "realism.json")
    strips = {}
    if os.path.exists(result):
        with open(result) as file:
            before = json.load(file)
        if before["classifier"] == found["classifier"]:
            strips = before["strips"]
    for path in sorted(glob.glob(os.path.join(args.out, "strips", "*.png"))):
        name = os.path.splitext(os.path.basename(path))[0]
        if name in strips:
            continue
        strip = np.asarray(Image.open(path).convert("RGB"))
        side = strip.shape[0]
        frames = np.stack([strip[:, x:x + side] for x in range(0, strip.shape[1], side)])
        sure, features = looked_at(net, frames)
        strips[name] = {
            "confidence": [round(float(v), 4) for v in sure],
            "manifold": [round(float(v) / own, 4) for v in nearest(features)]}
    found["strips"] = strips
    with open(result + ".part", "w") as file:
        json.dump(found, file)
    os.replace(result + ".part", result)
    print(f"{len(strips)} strips; the classifier is right on {100 * found['classifier']['accuracy']:.1f} % of what held-out "
          f"pictures show, and {found['classifier']['confidence']:.3f} sure")


if __name__ == "__main__":
    main()
