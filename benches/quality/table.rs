//! In: what was measured. Out: CSV, and tables in Markdown.

use crate::exact::Exact;
use crate::methods::Method;
use crate::metrics::Metrics;
use crate::pairs::PAIRS;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// One transition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) method: String,
    pub(crate) frames: usize,
    pub(crate) pair: usize,
    pub(crate) seed: usize,
    /// Guided steps of one branch that the UNet has evaluated: two samples each.
    pub(crate) evaluations: f64,
    /// Those that it was allowed.
    pub(crate) budget: usize,
    /// Pictures decoded.
    pub(crate) decodes: usize,
    pub(crate) how: String,
    pub(crate) metrics: Metrics,
}

impl Row {
    /// The name of its strip of frames.
    pub(crate) fn strip(&self) -> String {
        let Row { method, frames, pair, seed, .. } = self;
        format!("{method}-{frames}-{pair}-{seed}")
    }
}

/// What `realism.py` has found of one strip of frames.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Realism {
    confidence: Vec<f64>,
    manifold: Vec<f64>,
}

/// All that it has found.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Judged {
    strips: BTreeMap<String, Realism>,
}

/// A column: its head, what it shows of a row, and its decimals.
type Column = (&'static str, fn(&Metrics) -> f64, usize);

const COLUMNS: [Column; 14] = [
    ("PPL", |m| m.ppl, 2),
    ("directness", |m| m.directness, 2),
    ("PDV x 1e4", |m| m.pdv * 1e4, 3),
    ("CV", |m| m.cv, 2),
    ("CV, pixels", |m| m.cv_pixels, 2),
    ("Gini", |m| m.gini, 2),
    ("largest", |m| m.largest, 2),
    ("jerk", |m| m.jerk, 2),
    ("movement", |m| m.movement, 3),
    ("detail, least", |m| m.detail, 2),
    ("detail, middle", |m| m.detail_middle, 2),
    ("ghosting", |m| m.ghosting, 2),
    ("contrast, least", |m| m.contrast, 2),
    ("brightness off", |m| m.brightness, 3),
];

/// Of these columns the first are of what changes from frame to frame, the rest of the frames themselves.
const OF_CHANGE: usize = 9;

/// Of nothing, it is not a number.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += value;
        count += 1.0;
    }
    sum / count
}

/// Every row, with all columns.
pub(crate) fn csv(rows: &[Row]) -> String {
    let mut text = String::from("method,frames,pair,seed,evaluations,budget,decodes");
    for (name, _, _) in COLUMNS {
        let _ = write!(text, ",{}", name.replace(", ", " "));
    }
    text.push('\n');
    for row in rows {
        let Row { method, frames, pair, seed, evaluations, budget, decodes, .. } = row;
        let _ = write!(text, "{method},{frames},{pair},{seed},{evaluations},{budget},{decodes}");
        for (_, value, _) in COLUMNS {
            let _ = write!(text, ",{:.6}", value(&row.metrics));
        }
        text.push('\n');
    }
    text
}

/// What a table shows of one method's transitions: heads, values, decimals.
struct Shown {
    heads: Vec<&'static str>,
    values: Vec<(f64, usize)>,
}

/// Two tables for each number of frames, of what changes from frame to frame and of the frames themselves: the
/// mean of each method over all transitions that *every* method has.
pub(crate) fn markdown(rows: &[Row], judged: Option<&Judged>, methods: &[Method]) -> String {
    let mut text = String::new();
    let counts: BTreeSet<usize> = rows.iter().map(|row| row.frames).collect();
    for frames in counts {
        let of = |method: Method| {
            let wanted = move |row: &&Row| row.method == method.name() && row.frames == frames;
            rows.iter().filter(wanted)
        };
        let has = |method: Method, row: &Row| {
            of(method).any(|other| (other.pair, other.seed) == (row.pair, row.seed))
        };
        let shown: Vec<Method> =
            methods.iter().copied().filter(|&method| of(method).next().is_some()).collect();
        let common = |row: &&Row| shown.iter().all(|&method| has(method, row));
        // One method alone is no comparison.
        let [first, _, ..] = shown[..] else { continue };
        let number = of(first).filter(common).count();
        let pairs: BTreeSet<usize> = of(first).filter(common).map(|row| row.pair).collect();
        let _ = writeln!(
            text,
            "### {frames} frames: {number} transitions of {} pairs ({})\n",
            pairs.len(),
            pairs.iter().map(|&pair| PAIRS[pair].name).collect::<Vec<_>>().join("; ")
        );
        for even in [true, false] {
            for (index, &method) in shown.iter().enumerate() {
                let chosen: Vec<&Row> = of(method).filter(common).collect();
                let Shown { heads, values } = line(&chosen, judged, frames, even);
                if index == 0 {
                    let _ = writeln!(text, "| | {} |", heads.join(" | "));
                    let _ = writeln!(text, "|{}", " --- |".repeat(1 + heads.len()));
                }
                let _ = write!(text, "| {} |", method.name());
                for (value, decimals) in values {
                    let _ = match value.is_nan() {
                        true => write!(text, " - |"),
                        false => write!(text, " {value:.decimals$} |"),
                    };
                }
                text.push('\n');
            }
            text.push('\n');
        }
        text.push_str(&aims(&shown, &of, &common));
    }
    text
}

/// One line of the first or of the second table.
fn line(chosen: &[&Row], judged: Option<&Judged>, frames: usize, even: bool) -> Shown {
    let mut shown = Shown { heads: Vec::new(), values: Vec::new() };
    let mut add = |head: &'static str, value: f64, decimals: usize| {
        shown.heads.push(head);
        shown.values.push((value, decimals));
    };
    if even {
        let per_frame =
            |value: fn(&Row) -> f64| mean(chosen.iter().map(|row| value(row) / frames as f64));
        add("evaluations per frame", per_frame(|row| row.evaluations), 1);
        add("decodes per frame", per_frame(|row| row.decodes as f64), 2);
    }
    let columns = if even { &COLUMNS[..OF_CHANGE] } else { &COLUMNS[OF_CHANGE..] };
    for &(name, value, decimals) in columns {
        add(name, mean(chosen.iter().map(|row| value(&row.metrics))), decimals);
    }
    if let Some(judged) = judged
        && !even
    {
        const HEADS: [&str; 4] =
            ["confidence", "confidence, least", "off the manifold", "farthest off"];
        for (head, value) in HEADS.into_iter().zip(looks(judged, chosen)) {
            add(head, value, 3);
        }
    }
    shown
}

/// Mean and least confidence, mean and largest distance from the manifold, of inner frames.
fn looks(judged: &Judged, rows: &[&Row]) -> [f64; 4] {
    let strips: Vec<&Realism> =
        rows.iter().filter_map(|row| judged.strips.get(&row.strip())).collect();
    let inner = |values: &[f64]| values[1..values.len() - 1].to_vec();
    let over = |pick: &dyn Fn(&Realism) -> f64| mean(strips.iter().map(|strip| pick(strip)));
    [
        over(&|s| mean(inner(&s.confidence).into_iter())),
        over(&|s| inner(&s.confidence).into_iter().fold(1.0, f64::min)),
        over(&|s| mean(inner(&s.manifold).into_iter())),
        over(&|s| inner(&s.manifold).into_iter().fold(0.0, f64::max)),
    ]
}

/// Ours against the two trees of 2022, and against full resampling.
fn aims<'a, I: Iterator<Item = &'a Row>>(
    shown: &[Method],
    of: &dyn Fn(Method) -> I,
    common: &dyn Fn(&&Row) -> bool,
) -> String {
    let mut text = String::new();
    let rows = |method: Method| of(method).filter(|row| common(row)).collect::<Vec<&Row>>();
    let average = |method: Method, value: fn(&Metrics) -> f64| {
        mean(rows(method).iter().map(|row| value(&row.metrics)))
    };
    if !shown.contains(&Method::Ours) {
        return text;
    }
    for other in [Method::Tree2022, Method::Leaves2022, Method::Engine2023, Method::Resample] {
        if !shown.contains(&other) {
            continue;
        }
        let ours = rows(Method::Ours);
        let below = ours.iter().filter(|row| {
            let theirs = rows(other);
            let same = theirs.iter().find(|o| (o.pair, o.seed) == (row.pair, row.seed));
            same.is_some_and(|same| row.metrics.pdv <= same.metrics.pdv / 5.0)
        });
        let _ = writeln!(
            text,
            "* ours against {}: PDV 1/{:.1} (1/5 or less in {} of {}), CV 1/{:.1}, least detail {:+.0} %, detail in the middle {:+.0} %, ghosting {:+.2}, movement x {:.2}",
            other.name(),
            average(other, |m| m.pdv) / average(Method::Ours, |m| m.pdv),
            below.count(),
            ours.len(),
            average(other, |m| m.cv) / average(Method::Ours, |m| m.cv),
            100.0 * (average(Method::Ours, |m| m.detail) / average(other, |m| m.detail) - 1.0),
            100.0
                * (average(Method::Ours, |m| m.detail_middle)
                    / average(other, |m| m.detail_middle)
                    - 1.0),
            average(Method::Ours, |m| m.ghosting) - average(other, |m| m.ghosting),
            average(Method::Ours, |m| m.movement) / average(other, |m| m.movement),
        );
    }
    text.push('\n');
    text
}

/// What has to be the same to the last bit.
pub(crate) fn exactness(exact: &Exact) -> String {
    let mut text = format!(
        "### To the last bit, {} pairs\n\n| | endpoint | seam |\n| --- | --- | --- |\n",
        exact.pairs
    );
    for (name, endpoint) in &exact.endpoint {
        let seam = exact.seam.get(name).copied().unwrap_or(f64::NAN);
        let _ = writeln!(text, "| {name} | {endpoint:.3e} | {seam:.3e} |");
    }
    let [latent, frame] = exact.warm_ratio;
    let cosines: Vec<String> = exact.cosines.iter().map(|c| format!("{c:.3}")).collect();
    let _ = write!(
        text,
        "\n* frames of a chain shown twice: {}\n* bytes changed outside of an inpainting's mask: {}; step across its edge over those beside it: {:.2} ({:.2} in the source, at that place)\n\
         * this benchmark's own tree against the session's: {:e}\n* mean cosine of the latents that branches start between: {}\n\
         * a random frame of a prepared session: {} sampler steps; in time {latent:.2} of one step, {frame:.2} with its decode\n",
        exact.repeated,
        exact.outside,
        exact.edge,
        exact.edge_of_source,
        exact.tree,
        cosines.join(", "),
        exact.warm_evaluations,
    );
    text
}
