"""Soft-edged shapes on a picture, and the few helpers that all drawing shares."""
import numpy as np

C = lambda *v: np.array(v, np.float32)


def mix(a, b, t):
    return a + t * (b - a)


class Canvas:
    """A picture with x to the right and y down, both from 0 to 1."""

    def __init__(self, size):
        self.size, self.px = size, 1.0 / size
        c = (np.arange(size, dtype=np.float32) + .5) / size
        self.x, self.y = c[None, :], c[:, None]
        self.img = np.zeros((size, size, 3), np.float32)

    def box(self, x0, y0, x1, y1):
        """The part of the picture that a shape can touch: (slices, x, y)."""
        lo = lambda v: max(0, min(self.size, int(v * self.size) - 1))
        hi = lambda v: max(0, min(self.size, int(v * self.size) + 3))
        s = np.s_[lo(y0):hi(y1), lo(x0):hi(x1)]
        return s, self.x[:, s[1]], self.y[s[0]]

    def put(self, s, cover, color):
        part = self.img[s]
        part += cover[..., None] * (color - part)

    def edge(self, d, soft=0.0):
        return np.clip(.5 - d / (self.px * 1.3 + soft), 0, 1)

    def ellipse(self, cx, cy, rx, ry, color, soft=0.0, alpha=1.0):
        s, x, y = self.box(cx - rx - soft, cy - ry - soft, cx + rx + soft, cy + ry + soft)
        r = np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2)
        self.put(s, alpha * self.edge((r - 1) * min(rx, ry), soft), color)

    def poly(self, pts, color, alpha=1.0):
        """A convex polygon, its corners in either direction round."""
        p = np.asarray(pts, np.float32)
        s, x, y = self.box(p[:, 0].min(), p[:, 1].min(), p[:, 0].max(), p[:, 1].max())
        q = np.roll(p, -1, 0)
        turn = np.sign(((q[:, 0] - p[:, 0]) * (q[:, 1] + p[:, 1])).sum())
        d = None
        for (ax, ay), (bx, by) in zip(p, q):
            n = max(np.hypot(bx - ax, by - ay), 1e-6)
            e = turn * ((x - ax) * (by - ay) - (y - ay) * (bx - ax)) / -n
            d = e if d is None else np.maximum(d, e)
        self.put(s, alpha * self.edge(d), color)

    def rect(self, x0, y0, x1, y1, color, alpha=1.0):
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], color, alpha)

    def below(self, profile, top, bottom, reach=.4):
        """Fills everything under y = profile(x), from the colour `top` to `bottom` within `reach`."""
        h = np.asarray(profile, np.float32)[None, :]
        cover = self.edge(h - self.y)
        t = np.clip((self.y - h) / reach, 0, 1)[..., None]
        self.put(np.s_[:, :], cover, top + t * (bottom - top))
