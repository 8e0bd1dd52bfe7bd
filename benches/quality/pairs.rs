//! Out: the fixed pairs of prompts, in the words that the demo model knows, and the seeds of their keyframes.

use latentblend::Keyframe;

/// What one pair's keyframes show.
pub(crate) struct Pair {
    /// What differs.
    pub(crate) name: &'static str,
    pub(crate) prompts: [&'static str; 2],
}

/// From near to far: one attribute, then the layout, then all of it.
pub(crate) const PAIRS: [Pair; 12] = [
    Pair {
        name: "time of day",
        prompts: [
            "a photo of a red lighthouse in the middle by the sea by day, sunny",
            "a photo of a red lighthouse in the middle by the sea at night, with a full moon",
        ],
    },
    Pair {
        name: "season",
        prompts: [
            "a photo of a white house in the middle on green hills in summer, with round trees, by day",
            "a photo of a white house in the middle on green hills in winter, with round trees, by day",
        ],
    },
    Pair {
        name: "style, photo to ink",
        prompts: [
            "a photo of a yellow castle on the left in front of mountains by day, under a cloudy sky",
            "an ink drawing of a yellow castle on the left in front of mountains by day, under a cloudy sky",
        ],
    },
    Pair {
        name: "style, pastel to poster",
        prompts: [
            "a pastel drawing of a blue sailing boat in the middle on a lake at dawn",
            "a poster of a blue sailing boat in the middle on a lake at dawn",
        ],
    },
    Pair {
        name: "colour",
        prompts: [
            "a photo of a red hot air balloon in the middle over the desert by day, sunny",
            "a photo of a blue hot air balloon in the middle over the desert by day, sunny",
        ],
    },
    Pair {
        name: "place",
        prompts: [
            "a photo of a white windmill on the left in green hills by day",
            "a photo of a white windmill on the right in green hills by day",
        ],
    },
    Pair {
        name: "subject",
        prompts: [
            "a photo of a red house in the middle in green hills at dusk",
            "a photo of a red castle in the middle in green hills at dusk",
        ],
    },
    Pair {
        name: "weather",
        prompts: [
            "a photo of a lake in clear weather by day, with pines",
            "a photo of a lake in thick fog by day, with pines",
        ],
    },
    Pair {
        name: "terrain",
        prompts: [
            "a photo of a white castle in the middle in a desert at noon, with palms",
            "a photo of a white castle in the middle by the sea at noon, with palms",
        ],
    },
    Pair {
        name: "all, day to night",
        prompts: [
            "a blue hot air balloon over green hills by day, sunny, photo",
            "a red lighthouse by the sea at night under a clear sky, with a full moon",
        ],
    },
    Pair {
        name: "all, empty to full",
        prompts: [
            "a vintage photo of an empty landscape in a desert at noon, no buildings",
            "a poster of a green castle on the right in front of mountains in falling snow at night",
        ],
    },
    Pair {
        name: "all, left to right",
        prompts: [
            "an ink drawing of a yellow windmill on the left in green hills in spring with round trees",
            "a photo of a white sailing boat on the right on the sea at sunset, with clouds",
        ],
    },
];

/// In which pairs are measured, so that a few of them are near and far ones, too.
pub(crate) const ORDER: [usize; 12] = [9, 0, 5, 2, 10, 7, 8, 11, 1, 3, 4, 6];

/// The keyframes of pair number `pair` with its seeds number `seed`: no two keyframes share one.
pub(crate) fn keyframes(pair: usize, seed: usize) -> [Keyframe; 2] {
    let first = 1000 + 100 * pair as u64 + 2 * seed as u64;
    let [from, to] = PAIRS[pair].prompts;
    [Keyframe::new(from, first), Keyframe::new(to, first + 1)]
}
