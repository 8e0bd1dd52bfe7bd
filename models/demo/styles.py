"""The styles: each turns a finished picture (floats in 0..1) into another look."""
import numpy as np

from canvas import C, mix


def grey(img):
    return (img @ C(.30, .59, .11))[..., None]


def blur(img, r):
    """A box of 2r+1 pixels, each way, edges repeated."""
    for axis in (0, 1):
        pad = [(0, 0)] * img.ndim
        pad[axis] = (r + 1, r)
        s = np.cumsum(np.pad(img, pad, mode="edge"), axis, dtype=np.float32)
        n = 2 * r + 1
        img = (np.take(s, range(n, s.shape[axis]), axis) - np.take(s, range(0, s.shape[axis] - n), axis)) / n
    return img


def vignette(img, amount):
    t = np.linspace(-1, 1, img.shape[0], dtype=np.float32)
    return img * (1 - amount * np.clip(t[:, None] ** 2 + t[None] ** 2 - .35, 0, None))[..., None]


def photo(img, rng):
    return vignette(mix(grey(img), img, 1.08), .10)


def ink(img, rng):
    """Dark contours over a pale wash on paper."""
    r = max(1, img.shape[0] // 128)
    soft = blur(img, r)
    gy, gx = np.gradient(soft, axis=(0, 1))
    line = np.clip(np.sqrt((gy ** 2 + gx ** 2).sum(-1)) * (r * 4.2) - .22, 0, .92)[..., None]
    g = grey(soft)
    wash = C(.98, .95, .87) * (.22 + .78 * g ** .8) + (soft - g) * .62
    return mix(wash, C(.07, .06, .09), line)


def pastel(img, rng):
    img = blur(img, max(1, img.shape[0] // 128))
    return mix(grey(img), img, .85) ** .72 * .70 + .29


def poster(img, rng):
    """Few flat tones, strong colours."""
    v = np.clip((mix(grey(img), img, 1.35) - .5) * 1.1 + .5, 0, 1) * 5
    f = np.floor(v)
    return (f + np.clip((v - f - .5) * 6 + .5, 0, 1)) / 5


def vintage(img, rng):
    g = grey(img)
    toned = mix(g * C(1.08, .90, .64) + C(.06, .04, .02), img, .5)
    return vignette(toned * .86 + .07, .42)


STYLES = {"photo": photo, "ink": ink, "pastel": pastel, "poster": poster, "vintage": vintage}
