"""Words for a picture's attributes: synonyms, any order, parts left out."""
import numpy as np

from scenes import ATTRS

TIME = {
    "dawn": ["at dawn", "at sunrise", "in the early morning", "at daybreak", "in morning light", "dawn", "sunrise"],
    "day": ["by day", "in the daytime", "at noon", "in daylight", "in the afternoon", "daytime", "noon"],
    "dusk": ["at dusk", "at sunset", "in the evening", "in evening light", "at twilight", "sunset", "dusk"],
    "night": ["at night", "by night", "in the dark", "in the middle of the night", "late at night", "night", "midnight"],
}
WEATHER = {
    "clear": ["under a clear sky", "in clear weather", "clear sky", "with a cloudless sky", "in fine weather"],
    "cloudy": ["under a cloudy sky", "with clouds", "with white clouds", "cloudy", "with drifting clouds", "clouds in the sky"],
    "foggy": ["in fog", "in the mist", "in thick fog", "foggy", "misty", "on a foggy day", "hazy"],
    "rainy": ["in the rain", "in heavy rain", "rainy", "with rain falling", "on a rainy day", "rain"],
    "snowy": ["in falling snow", "while it snows", "in a snowstorm", "with snowflakes", "snowfall", "snowing"],
}
TERRAIN = {
    "mountains": ["mountains", "high mountains", "the mountains", "a mountain range", "rocky peaks", "alps"],
    "hills": ["hills", "rolling hills", "the hills", "a hilly landscape", "green hills", "a countryside of hills"],
    "desert": ["a desert", "the desert", "sand dunes", "dunes", "desert dunes"],
    "sea": ["the sea", "the ocean", "the coast", "a beach", "the seaside", "a sea shore"],
    "lake": ["a lake", "a mountain lake", "a calm lake", "the lake", "a lake below mountains"],
}
SUBJECT = {
    "house": ["house", "cottage", "home", "cabin"],
    "lighthouse": ["lighthouse", "lighthouse", "beacon"],
    "boat": ["sailing boat", "boat", "sailboat", "ship", "yacht"],
    "balloon": ["hot air balloon", "balloon", "air balloon"],
    "windmill": ["windmill", "mill", "old windmill"],
    "castle": ["castle", "fortress", "old castle"],
}
NOTHING = ["an empty landscape", "an empty scene", "no buildings", "nothing else", "a lonely landscape"]
COLOR = {
    "red": ["red", "crimson", "scarlet"], "blue": ["blue", "dark blue", "azure"], "yellow": ["yellow", "golden"],
    "white": ["white", "pale white"], "green": ["green", "emerald"],
}
POSITION = {
    "left": ["on the left", "to the left", "at the left", "on the left side"],
    "centre": ["in the middle", "in the centre", "in the center"],
    "right": ["on the right", "to the right", "at the right", "on the right side"],
}
TREES = {
    "none": ["without trees", "no trees", "treeless"],
    "pines": ["with pines", "with pine trees", "pine trees", "with fir trees", "with a conifer forest", "firs"],
    "round": ["with round trees", "with leafy trees", "leafy trees", "with oaks", "with broad trees", "oak trees"],
    "palms": ["with palms", "with palm trees", "palm trees", "palms"],
}
SEASON = {
    "spring": ["in spring", "spring", "springtime", "with spring flowers", "in bloom"],
    "summer": ["in summer", "summer", "summertime", "in the summer"],
    "autumn": ["in autumn", "autumn", "fall colours", "with autumn leaves", "in fall"],
    "winter": ["in winter", "winter", "wintertime", "with snow on the ground", "snow covered"],
}
LIGHT = {
    "none": [],
    "sun": ["with the sun", "with the sun in the sky", "sunny", "sun", "with a bright sun"],
    "full moon": ["with a full moon", "full moon", "under a full moon", "with a round moon"],
    "crescent": ["with a crescent moon", "crescent moon", "with a thin moon", "under a crescent moon", "half moon"],
    "stars": ["with stars", "under the stars", "starry sky", "with a starry sky", "stars"],
}
STYLE = {
    "photo": ["a photo of", "photograph of", "a photograph of", "a realistic picture of", "photo:"],
    "ink": ["an ink drawing of", "ink drawing of", "a pen and ink sketch of", "a comic drawing of", "ink sketch:"],
    "pastel": ["a pastel drawing of", "a pastel of", "a soft pastel painting of", "pastel colours:", "pastel:"],
    "poster": ["a poster of", "a travel poster of", "a screen print of", "a bold poster of", "poster:"],
    "vintage": ["a vintage photo of", "an old photograph of", "a sepia photo of", "an antique picture of", "vintage:"],
}
TAILS = {
    "photo": ["photo", "photograph", "realistic photo"], "ink": ["ink drawing", "pen and ink", "ink sketch", "comic drawing"],
    "pastel": ["pastel drawing", "pastel", "soft pastel colours"], "poster": ["poster", "travel poster", "screen print", "flat poster art"],
    "vintage": ["vintage photo", "old photograph", "sepia", "antique picture"],
}
IN = {"mountains": ["in", "before", "in front of"], "hills": ["in", "on", "among"], "desert": ["in"],
      "sea": ["by", "at", "near"], "lake": ["by", "at", "near"]}
WORDS = {"time": TIME, "weather": WEATHER, "season": SEASON, "trees": TREES, "light": LIGHT}


def caption(attrs, rng, keep=None):
    """A caption of `attrs`. `keep` is the chance of each part to be said; None draws it, and 1 says everything."""
    return caption_and_said(attrs, rng, keep)[0]


def caption_and_said(attrs, rng, keep=None):
    """A caption and the names of the attributes that it states."""
    pick = lambda words: words[rng.integers(len(words))]
    if keep is None:
        if rng.random() < .1:
            return "", []
        keep = (1.0, .85, .55, .25)[rng.integers(4)]
    told = []

    def said(name):
        if attrs[name] is None or rng.random() >= keep or (name == "light" and attrs[name] == "none"):
            return False
        told.append(name)
        return True

    parts = [pick(WORDS[n][attrs[n]]) for n in WORDS if said(n)]
    parts = [parts[i] for i in rng.permutation(len(parts))]

    what, where = "", pick(TERRAIN[attrs["terrain"]]) if said("terrain") else ""
    if attrs["subject"] != "none" and said("subject"):
        color = pick(COLOR[attrs["color"]]) + " " if said("color") else ""
        what = color + pick(SUBJECT[attrs["subject"]])
        what = ("an " if what[0] in "aeiou" else "a ") + what
        if said("position"):
            what += " " + pick(POSITION[attrs["position"]])
    elif attrs["subject"] == "none" and said("subject"):
        parts.insert(rng.integers(len(parts) + 1), pick(NOTHING))
    style = attrs["style"] if said("style") else None

    if rng.random() < .45:  # a list of tags in any order
        tags = [t for t in [what, where, *parts, pick(TAILS[style]) if style else ""] if t]
        return ", ".join(tags[i] for i in rng.permutation(len(tags))), told
    place = pick(["in", "over"]) if attrs["subject"] == "balloon" else pick(IN[attrs["terrain"]])
    if attrs["subject"] == "boat":
        place = "on"
    core = f"{what} {place} {where}" if what and where else what or where or pick(["a landscape", "a scene", "a view"])
    text = core + "".join((", " if rng.random() < .5 else " ") + p for p in parts)
    if style:
        text = f"{pick(STYLE[style])} {text}" if rng.random() < .7 else f"{text}, {pick(TAILS[style])}"
    return text, told


def vocabulary():
    """Every phrase that a caption can hold, for the tokenizer's words and for the model card."""
    tables = [TIME, WEATHER, TERRAIN, SUBJECT, COLOR, POSITION, TREES, SEASON, LIGHT, STYLE, TAILS, IN]
    return NOTHING + ["a landscape", "a scene", "a view", "over", "on", ","] + [w for t in tables for ws in t.values() for w in ws]


def labels(attrs):
    """Index of each attribute's value, -1 where it has no meaning."""
    return [ATTRS[n].index(attrs[n]) if attrs[n] is not None else -1 for n in ATTRS]


if __name__ == "__main__":
    import scenes
    for i in range(20):
        print(repr(caption(scenes.sample(i), np.random.default_rng(i))))
