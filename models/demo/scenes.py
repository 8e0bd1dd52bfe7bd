"""Renders the training pictures: landscapes made from a seed and a set of attributes.

Everything is drawn from analytic shapes with one pixel of soft edge, so a picture can be rendered at any size and
holds no detail that a factor-8 VAE with four latent channels could not carry. `sample(seed)` draws the attributes,
`render(attrs, seed, size)` the picture; both depend on nothing but their arguments.
"""
import numpy as np

from canvas import C, Canvas, mix
from styles import STYLES

ATTRS = {
    "time": ["dawn", "day", "dusk", "night"],
    "weather": ["clear", "cloudy", "foggy", "rainy", "snowy"],
    "terrain": ["mountains", "hills", "desert", "sea", "lake"],
    "subject": ["none", "house", "lighthouse", "boat", "balloon", "windmill", "castle"],
    "color": ["red", "blue", "yellow", "white", "green"],
    "position": ["left", "centre", "right"],
    "trees": ["none", "pines", "round", "palms"],
    "season": ["spring", "summer", "autumn", "winter"],
    "light": ["none", "sun", "full moon", "crescent", "stars"],
    "style": ["photo", "ink", "pastel", "poster", "vintage"],
}


def sample(seed):
    """Attributes of picture number `seed`. A value is None where the attribute has no meaning."""
    rng = np.random.default_rng([seed, 1])
    pick = lambda values, p=None: str(rng.choice(values, p=p))
    a = {"time": pick(ATTRS["time"]), "terrain": pick(ATTRS["terrain"]), "style": pick(ATTRS["style"])}
    desert, water, green = a["terrain"] == "desert", a["terrain"] in ("sea", "lake"), a["terrain"] not in ("sea", "desert")
    a["weather"] = pick(ATTRS["weather"], [.36, .22, .2, .22, 0] if desert else [.32, .2, .16, .16, .16])
    a["season"] = pick(ATTRS["season"]) if green else None
    if green and a["weather"] == "snowy":
        a["season"] = "winter"
    a["subject"] = pick([s for s in ATTRS["subject"] if water or s != "boat"])
    if water and rng.random() < .1:
        a["subject"] = "boat"
    a["color"] = pick(ATTRS["color"]) if a["subject"] != "none" else None
    a["position"] = pick(ATTRS["position"]) if a["subject"] != "none" else None
    a["trees"] = pick(["none", "palms"] if desert else ["none", "palms", "pines"] if a["terrain"] == "sea"
                      else ["none", "pines", "round"])
    if a["weather"] not in ("clear", "cloudy"):
        a["light"] = "none"
    elif a["time"] == "night":
        a["light"] = pick(["full moon", "crescent", "stars"])
    else:
        a["light"] = pick(["sun", "none"], [.75, .25])
    return a


SKY = {"dawn": (C(.50, .56, .80), C(1.0, .80, .74)), "day": (C(.22, .50, .88), C(.74, .88, .97)),
       "dusk": (C(.27, .13, .38), C(1.0, .50, .16)), "night": (C(.02, .04, .13), C(.10, .15, .34))}
LIGHT = {"dawn": C(.90, .80, .84), "day": C(1, 1, 1), "dusk": C(.66, .45, .42), "night": C(.24, .29, .46)}
GROUND = {"spring": C(.56, .80, .34), "summer": C(.20, .50, .19), "autumn": C(.78, .52, .18), "winter": C(.92, .95, .99),
          None: C(.87, .73, .47)}
PAINT = {"red": C(.84, .13, .12), "blue": C(.13, .30, .82), "yellow": C(.97, .80, .12), "white": C(.97, .97, .96),
         "green": C(.08, .56, .32)}
FOLIAGE = {"spring": C(.95, .62, .74), "summer": C(.16, .45, .14), "autumn": C(.86, .33, .10), "winter": C(.86, .90, .95)}


def waves(rng, x, freqs, amps):
    out = np.zeros_like(x)
    for f, a in zip(freqs, amps):
        out += a * np.sin(2 * np.pi * (f * rng.uniform(.75, 1.3) * x + rng.random()))
    return out


def peaks(rng, x, n, base, height):
    """A ridge line of n triangular peaks."""
    out = np.full_like(x, base)
    for i in range(n):
        c = (i + rng.uniform(.1, .9)) / n
        h, w = height * rng.uniform(.55, 1), rng.uniform(.24, .4) * 2.2 / n ** .6
        out = np.minimum(out, base - h * (1 - np.abs(x - c) / w))
    return out


class Scene:
    def __init__(self, attrs, seed, size=128):
        self.a, self.rng, self.c = attrs, np.random.default_rng([seed, 2]), Canvas(size)
        rng, u = self.rng, self.rng.uniform
        top, low = SKY[attrs["time"]]
        hue = rng.normal(0, .025, 3).astype(np.float32)
        self.lamp = LIGHT[attrs["time"]]
        grey = C(.62, .65, .70) * (self.lamp * .8 + .2)
        dull = {"clear": 0, "cloudy": .12, "foggy": .72, "rainy": .72, "snowy": .55}[attrs["weather"]]
        if attrs["weather"] == "rainy":
            grey = grey * .72
        if attrs["weather"] in ("foggy", "snowy"):
            grey = grey * 1.2
        self.sky = (np.clip(mix(top + hue, grey * .92, dull), 0, 1), np.clip(mix(low + hue, grey * 1.05, dull * .85), 0, 1))
        self.fog = {"foggy": .85, "rainy": .25, "snowy": .3}.get(attrs["weather"], .1)
        self.ground = np.clip(GROUND[attrs["season"]] + rng.normal(0, .02, 3).astype(np.float32), 0, 1)
        self.horizon = u(.55, .63)
        self.sx = {"left": .24, "centre": .5, "right": .76, None: 2.0}[attrs["position"]] + u(-.04, .04)
        self.bank = None

    def tone(self, color, depth=0.0):
        """A material's colour in this light, seen through the air at a distance of `depth` (0 to 1)."""
        f = min(self.fog * (.3 + .9 * depth), .93) if self.fog > .2 else self.fog * 3 * depth
        return mix(color * self.lamp, self.sky[1], f)

    def thing(self, color):
        """The subject's colours keep more of their own at night and in fog, so that they can be told."""
        return mix(color * (self.lamp * .72 + .28), self.sky[1], self.fog * .3 if self.fog > .2 else 0)

    def draw(self):
        self.draw_sky()
        getattr(self, "land_" + self.a["terrain"])()
        self.draw_trees()
        if self.a["subject"] != "none":
            getattr(self, "draw_" + self.a["subject"])()
        self.c.img[:] = np.clip(STYLES[self.a["style"]](np.clip(self.c.img, 0, 1), self.rng), 0, 1)
        self.draw_fall()
        return np.clip(self.c.img, 0, 1)

    # the sky ---------------------------------------------------------------------------------------------------
    def draw_sky(self):
        c, u, a = self.c, self.rng.uniform, self.a
        t = np.clip(c.y / self.horizon, 0, 1)[..., None] ** 1.3
        c.img[:] = mix(self.sky[0], self.sky[1], t)
        # on the side away from a balloon, else anywhere
        lx = u(.14, .86)
        if a["subject"] == "balloon":
            lx = self.sx + (.42 if self.sx < .4 else -.42 if self.sx > .6 else u(.32, .36) * self.rng.choice([-1, 1]))
        low = a["time"] in ("dawn", "dusk")
        ly = self.horizon - u(.13, .22) if low else u(.13, .22)
        r = u(.075, .095)
        if a["light"] == "sun":
            col = {"dawn": C(1, .95, .72), "day": C(1, .96, .60), "dusk": C(1, .80, .28)}[a["time"]]
            c.ellipse(lx, ly, r * 1.9, r * 1.9, col, soft=.16, alpha=.5)
            c.ellipse(lx, ly, r, r, col * C(1, 1, .92))
        elif a["light"] == "full moon":
            c.ellipse(lx, ly, r * 1.7, r * 1.7, C(.5, .55, .72), soft=.14, alpha=.5)
            c.ellipse(lx, ly, r, r, C(.97, .96, .86))
        elif a["light"] == "crescent":
            s, x, y = c.box(lx - r, ly - r, lx + r, ly + r)
            side = self.rng.choice([-1, 1])
            disc = c.edge(np.hypot(x - lx, y - ly) - r)
            bite = c.edge(np.hypot(x - lx - side * r * .62, y - ly + r * .2) - r * .92)
            c.put(s, disc * (1 - bite), C(.99, .96, .80))
        elif a["light"] == "stars":
            for _ in range(self.rng.integers(10, 15)):
                q = u(.014, .021)
                c.ellipse(u(.02, .98), u(.02, self.horizon - .08), q, q, C(1, 1, .92))
        self.light_at = (lx, ly)
        self.draw_clouds()

    def draw_clouds(self):
        c, u, w = self.c, self.rng.uniform, self.a["weather"]
        white = mix(C(1, 1, 1) * (self.lamp * .75 + .22), self.sky[1], .15)
        if w == "cloudy":
            n = self.rng.integers(3, 6)
            for i in range(n):
                cx, cy, s = (i + u(.1, .9)) / n, u(.1, .42), u(.8, 1.35)
                for dx, dy, q in ((-.09, .015, .055), (0, -.02, .08), (.09, .012, .06)):
                    c.ellipse(cx + dx * s, cy + dy * s, q * s * 1.25, q * s * .8, white, soft=.02, alpha=.92)
        elif w in ("rainy", "snowy"):
            col = self.sky[0] * (.72 if w == "rainy" else .9)
            for i in range(6):
                c.ellipse(i / 5 + u(-.08, .08), u(-.06, .06), u(.16, .24), u(.09, .15), col, soft=.05, alpha=.9)

    def draw_fall(self):
        """Rain or snow in front of everything, also of the style, whose lines would make soot of it."""
        c, u, ink = self.c, self.rng.uniform, self.a["style"] == "ink"
        if self.a["weather"] == "rainy":
            slant, col = u(.25, .4) * self.rng.choice([-1, 1]), C(.36, .42, .52) if ink else C(.80, .85, .93)
            for i in range(12):
                x, y, n, w = (i % 4 + u(0, 1)) / 4, (i // 4 + u(0, 1)) / 3 - .1, u(.18, .22), .011
                c.poly([(x - w, y), (x + w, y), (x + w - slant * n, y + n), (x - w - slant * n, y + n)], col, .5)
        elif self.a["weather"] == "snowy":
            for i in range(16):
                q = u(.019, .027)
                c.ellipse((i % 4 + u(.1, .9)) / 4, (i // 4 + u(.1, .9)) / 4, q, q, C(.56, .62, .74) if ink else C(1, 1, 1), alpha=.9)

    # the land --------------------------------------------------------------------------------------------------
    def far_peaks(self, base, height):
        c, rng, x = self.c, self.rng, self.c.x[0]
        rock = C(.46, .47, .55) + rng.normal(0, .03, 3).astype(np.float32)
        snow = C(.95, .97, 1)
        for depth, h, n in ((.75, height, 3), (.4, height * .62, 4)):
            line = peaks(rng, x, n, base, h) + waves(rng, x, (9, 16), (.006, .004))
            c.below(line, self.tone(rock, depth), self.tone(rock * .8, depth), .3)
            # snow lies above a wavy line and only near the crest
            cap = np.maximum(base - h * .56 + waves(rng, x, (6, 11), (.02, .012)), line)
            cover = c.edge(line[None] - c.y) * c.edge(c.y - cap[None])
            c.put(np.s_[:, :], cover, self.tone(snow, depth * .8))

    def near_ground(self, y, rough=.02, depth=0.0):
        x = self.c.x[0]
        line = y + waves(self.rng, x, (1, 2.3), (rough, rough * .4))
        self.c.below(line, self.tone(self.ground, depth), self.tone(self.ground * .72, depth), .35)
        self.line = line
        if self.a["season"] == "spring" and depth == 0:
            for i in range(7):
                fx = (i + self.rng.random()) / 7
                q = self.rng.uniform(.016, .022)
                col = (C(1, .95, .5), C(1, .6, .78), C(1, 1, 1))[i % 3]
                self.c.ellipse(fx, mix(self.at(fx) + .04, .99, self.rng.random()), q, q, self.tone(col))

    def at(self, x):
        return float(np.interp(x, self.c.x[0], self.line))

    def land_mountains(self):
        self.far_peaks(self.horizon + .1, self.rng.uniform(.38, .5))
        self.near_ground(.73)

    def land_hills(self):
        x, u, g = self.c.x[0], self.rng.uniform, self.ground
        for i, depth in enumerate((.8, .45, .2)):
            line = self.horizon - .06 + .075 * i + waves(self.rng, x, (.9, 1.9), (.05, .022))
            self.c.below(line, self.tone(g * (.82 + .05 * i), depth), self.tone(g * .66, depth), .22)
        self.near_ground(.76, .025)

    def land_desert(self):
        x, rng = self.c.x[0], self.rng
        sand = self.ground
        for i, depth in enumerate((.6, .3, 0)):
            # a dune's crest: a steep lee side in shade beside a long lit slope
            f, ph, y = rng.uniform(1.2, 1.8), rng.random(), self.horizon + .02 + .09 * i
            p = (f * x + ph) % 1
            line = y - .11 * np.where(p < .68, p / .68, (1 - p) / .32) ** 1.25 + .04
            self.c.below(line, self.tone(sand * (1.06 - .05 * i), depth), self.tone(sand * .9, depth), .3)
            lee = self.c.edge(line[None] - self.c.y) * np.clip((p[None] - .68) * 40, 0, 1) * np.clip((1 - p[None]) * 9, 0, 1)
            lee = lee * np.clip(1 - (self.c.y - line[None]) / .2, 0, 1)
            self.c.put(np.s_[:, :], lee * .75, self.tone(sand * C(.68, .55, .52), depth))
        self.line = np.full_like(x, .78)

    def water(self, deep, mirror):
        c, h = self.c, self.horizon
        row = int(round(h * c.size))
        n = c.size - row
        t = np.clip((c.y[row:] - h) / (1 - h), 0, 1)[..., None]
        tint = mix(mix(self.sky[1], self.tone(deep, .1), .55), self.tone(deep), t)
        flip = c.img[np.clip(row - 1 - (np.arange(n) * .85).astype(int), 0, None)]
        c.img[row:] = mix(tint, flip, mirror * (1 - .4 * t))
        if self.a["light"] in ("sun", "full moon"):
            lx = self.light_at[0]
            glow = np.clip(1 - np.abs(c.x - lx) / (.035 + .1 * (c.y[row:] - h)), 0, 1) * .55
            c.put(np.s_[row:, :], glow, C(1, .93, .70) if self.a["light"] == "sun" else C(.85, .88, .92))
        for i in range(4):
            wy, wx = h + .05 + .07 * i + self.rng.uniform(-.01, .01), self.rng.random()
            c.ellipse(wx, wy, .16 + .03 * i, .006 + .0015 * i, c.img[min(c.size - 1, int(wy * c.size))].mean(0) * .6 + .4 * self.sky[1],
                      soft=.006, alpha=.6)

    def shore(self, color, trees):
        """A bank at the bottom that rises to a headland where something has to stand on it."""
        x, u = self.c.x[0], self.rng.uniform
        self.ground = color
        stands = self.a["subject"] in ("house", "lighthouse", "windmill", "castle")
        keep = u(.88, .92)
        y = keep - (.15 * np.exp(-((x - self.sx) / .25) ** 4) if stands else 0)
        if trees and not stands:
            y = y - .04
        self.near_ground(y)

    def land_sea(self):
        self.water(C(.06, .34, .52) + self.rng.normal(0, .025, 3).astype(np.float32), .12)
        self.shore(C(.84, .74, .54), self.a["trees"] != "none")

    def land_lake(self):
        self.far_peaks(self.horizon + .03, self.rng.uniform(.3, .4))
        x = self.c.x[0]
        far = self.horizon - .02 + waves(self.rng, x, (1.5, 3), (.014, .006))
        self.c.below(far, self.tone(self.ground * .72, .45), self.tone(self.ground * .6, .45))
        self.water(C(.14, .36, .48), .72)
        self.shore(self.ground, self.a["trees"] != "none")

    # trees -----------------------------------------------------------------------------------------------------
    def draw_trees(self):
        kind, u = self.a["trees"], self.rng.uniform
        if kind == "none":
            return
        n = self.rng.integers(4, 6)
        places = [(i + u(.2, .8)) / n for i in range(n)]
        if self.a["subject"] not in ("none", "balloon", "boat"):
            places = [p for p in places if abs(p - self.sx) > .27]
        if self.a["subject"] == "boat":
            places = [p for p in places if abs(p - self.sx) > .24]
        for p in sorted(places, key=lambda p: self.rng.random()):
            base = self.at(p) + u(.02, .06)
            getattr(self, "tree_" + kind)(p, base, u(.27, .38))

    def tree_pines(self, x, y, h):
        c, winter = self.c, self.a["season"] == "winter" or self.a["weather"] == "snowy"
        green = self.tone(C(.08, .30, .20) + self.rng.normal(0, .02, 3).astype(np.float32), .05)
        c.rect(x - .02, y - h * .2, x + .02, y, self.tone(C(.30, .20, .14)))
        for k, w in ((.12, .36), (.38, .28), (.62, .19)):
            tip = y - h * min(1, k + .42)
            c.poly([(x - w * h, y - h * k), (x + w * h, y - h * k), (x, tip)], green)
            if winter:
                c.poly([(x - w * h * .45, tip + h * .18), (x + w * h * .45, tip + h * .18), (x, tip)], self.tone(C(.95, .97, 1)))

    def tree_round(self, x, y, h):
        c = self.c
        leaf = self.tone(np.clip(FOLIAGE[self.a["season"]] + self.rng.normal(0, .03, 3).astype(np.float32), 0, 1), .05)
        c.rect(x - .022, y - h * .5, x + .022, y, self.tone(C(.34, .22, .15)))
        c.ellipse(x, y - h * .66, h * .36, h * .34, leaf * .86)
        c.ellipse(x - h * .07, y - h * .72, h * .25, h * .24, np.clip(leaf * 1.1, 0, 1), soft=.02)

    def tree_palms(self, x, y, h):
        c, h = self.c, h * 1.15
        lean = self.rng.uniform(-.05, .05)
        trunk, leaf = self.tone(C(.45, .31, .18)), self.tone(C(.13, .46, .20), .05)
        tx, ty = x + lean, y - h
        c.poly([(x - .024, y), (x + .024, y), (tx + .015, ty), (tx - .015, ty)], trunk)
        for dx, dy in ((-1, .42), (-.95, -.25), (0, -.62), (.95, -.25), (1, .42)):
            ex, ey = tx + dx * h * .4, ty + dy * h * .4
            mx, my = (tx + ex) / 2, (ty + ey) / 2 - .022
            nx, ny = -(ey - ty), ex - tx
            k = .036 / max(np.hypot(nx, ny), 1e-3)
            c.poly([(tx, ty), (mx + nx * k, my + ny * k), (ex, ey), (mx - nx * k, my - ny * k)], leaf)

    # subjects --------------------------------------------------------------------------------------------------
    def stand(self):
        """Where a standing subject begins, how large it is, its paint and the colour of its windows."""
        s, paint = self.rng.uniform(1.12, 1.32), PAINT[self.a["color"]]
        pane = C(1, .86, .42) if self.a["time"] in ("night", "dusk") else self.thing(C(.20, .24, .32))
        return self.sx, self.at(self.sx) + .05, s, self.thing(paint), self.thing(paint * .74), pane

    def draw_house(self):
        x, y, s, paint, shade, pane = self.stand()
        w, h = .16 * s, .18 * s
        roof = self.thing(C(.30, .23, .22))
        self.c.rect(x + w * .45, y - h - .17 * s, x + w * .45 + .04, y - h - .03, roof)
        self.c.rect(x - w, y - h, x + w, y, paint)
        self.c.rect(x + w * .35, y - h, x + w, y, shade)
        self.c.poly([(x - w * 1.2, y - h), (x + w * 1.2, y - h), (x + w * .62, y - h - .14 * s), (x - w * .62, y - h - .14 * s)], roof)
        self.c.rect(x - w * .75, y - h * .78, x - w * .32, y - h * .35, pane)
        self.c.rect(x - w * .12, y - h * .62, x + w * .2, y, self.thing(C(.28, .17, .12)))
        self.c.rect(x + w * .5, y - h * .78, x + w * .85, y - h * .35, pane)

    def draw_lighthouse(self):
        x, y, s, paint, _, _ = self.stand()
        h, white = .44 * s, self.thing(C(.97, .97, .96) if self.a["color"] != "white" else C(.74, .76, .80))
        half = lambda t: mix(.078, .05, t) * s
        for i in range(4):
            t0, t1 = i / 4, (i + 1) / 4
            self.c.poly([(x - half(t0), y - h * t0), (x + half(t0), y - h * t0), (x + half(t1), y - h * t1), (x - half(t1), y - h * t1)],
                        paint if i % 2 == 0 else white)
        dark, top = self.thing(C(.16, .17, .20)), y - h
        if self.a["time"] in ("night", "dusk"):
            side = 1 if self.sx < .5 else -1
            self.c.poly([(x, top - .045 * s), (x + side * .5, top - .13), (x + side * .5, top + .05)], C(1, .93, .62), .45)
        self.c.rect(x - .062 * s, top - .016, x + .062 * s, top + .006, dark)
        self.c.rect(x - .034 * s, top - .078 * s, x + .034 * s, top - .012, C(1, .92, .55))
        self.c.poly([(x - .052 * s, top - .072 * s), (x + .052 * s, top - .072 * s), (x, top - .13 * s)], dark)

    def draw_boat(self):
        s, paint = self.rng.uniform(1.15, 1.4), PAINT[self.a["color"]]
        x, y = self.sx, self.horizon + .16 + self.rng.uniform(0, .03)
        hull, d = self.thing(C(.36, .21, .13)), self.rng.choice([-1, 1])
        self.c.ellipse(x, y + .012, .17 * s, .018, self.tone(C(.05, .14, .2)), soft=.02, alpha=.5)
        self.c.rect(x - .009, y - .43 * s, x + .009, y - .04, hull)
        self.c.poly([(x + d * .018, y - .42 * s), (x + d * .018, y - .085), (x + d * .19 * s, y - .085)], self.thing(paint))
        self.c.poly([(x - d * .022, y - .36 * s), (x - d * .022, y - .085), (x - d * .12 * s, y - .085)], self.thing(paint * .8))
        self.c.poly([(x - .17 * s, y - .06), (x + .17 * s, y - .06), (x + .115 * s, y + .015), (x - .115 * s, y + .015)], hull)

    def draw_balloon(self):
        s, paint = self.rng.uniform(1.15, 1.35), PAINT[self.a["color"]]
        x, y, r = self.sx, self.rng.uniform(.28, .35), .155
        main, band = self.thing(paint), self.thing(mix(paint, C(1, 1, 1), .45) if self.a["color"] != "white" else C(.74, .78, .86))
        basket, cord = self.thing(C(.42, .27, .15)), self.thing(C(.25, .2, .18))
        for d in (-1, 1):
            self.c.poly([(x + d * .075 * s, y + .13 * s), (x + d * .09 * s, y + .13 * s), (x + d * .034 * s, y + .27 * s), (x + d * .022 * s, y + .27 * s)], cord)
        self.c.poly([(x - r * .92 * s, y + .07 * s), (x + r * .92 * s, y + .07 * s), (x + .035 * s, y + .215 * s), (x - .035 * s, y + .215 * s)], main)
        self.c.ellipse(x, y, r * s, r * s, main)
        self.c.ellipse(x, y + .005, r * .40 * s, r * 1.0 * s, band)
        self.c.rect(x - .04 * s, y + .26 * s, x + .04 * s, y + .325 * s, basket)

    def draw_windmill(self):
        x, y, s, paint, shade, pane = self.stand()
        h = .33 * s
        self.c.poly([(x - .1 * s, y), (x + .1 * s, y), (x + .062 * s, y - h), (x - .062 * s, y - h)], paint)
        self.c.poly([(x + .03 * s, y), (x + .1 * s, y), (x + .062 * s, y - h), (x + .02 * s, y - h)], shade)
        self.c.poly([(x - .075 * s, y - h), (x + .075 * s, y - h), (x, y - h - .08 * s)], self.thing(C(.28, .2, .18)))
        self.c.rect(x - .024, y - .09 * s, x + .024, y, self.thing(C(.26, .16, .12)))
        hub, turn = (x, y - h), self.rng.uniform(.15, 1.42)
        sail = self.thing(C(.98, .97, .90)) if self.a["color"] != "white" else self.thing(C(.45, .33, .25))
        for k in range(4):
            t = turn + k * np.pi / 2
            dx, dy = np.cos(t), np.sin(t)
            at = lambda r, w: (hub[0] + dx * r - dy * w, hub[1] + dy * r + dx * w)
            self.c.poly([at(.0, -.008), at(.22 * s, -.010), at(.22 * s, .042), at(.06, .034), at(0, .008)], sail)
        self.c.ellipse(*hub, .02, .02, self.thing(C(.25, .18, .15)))

    def draw_castle(self):
        x, y, s, paint, shade, pane = self.stand()
        dark = self.thing(C(.27, .25, .30))
        self.c.rect(x - .15 * s, y - .19 * s, x + .15 * s, y, paint)
        for i in range(4):
            bx = x + (-.105 + i * .07) * s
            self.c.rect(bx - .018 * s, y - .225 * s, bx + .018 * s, y - .18 * s, paint)
        for d in (-1, 1):
            tx = x + d * .155 * s
            self.c.rect(tx - .052 * s, y - .31 * s, tx + .052 * s, y, shade)
            self.c.poly([(tx - .068 * s, y - .305 * s), (tx + .068 * s, y - .305 * s), (tx, y - .43 * s)], dark)
            self.c.rect(tx - .016, y - .24 * s, tx + .016, y - .17 * s, pane)
        self.c.ellipse(x, y - .07 * s, .043 * s, .05 * s, dark)
        self.c.rect(x - .043 * s, y - .07 * s, x + .043 * s, y, dark)


def render(attrs, seed, size=128):
    """The picture as floats [size, size, 3] in 0..1."""
    return Scene(attrs, seed, size).draw().astype(np.float32)


def picture(seed, size=128):
    """Attributes and 8-bit picture number `seed`."""
    a = sample(seed)
    return a, (render(a, seed, size) * 255 + .5).astype(np.uint8)
