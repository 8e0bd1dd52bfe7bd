//! In: a model, keyframes and options. Out: [`Session`], which answers "give me the frame at t" for any
//! t, exactly, in any order, from any thread.

use super::image::KeyframeImage;
use super::inpainting::Inpainting;
use super::keyframe::Keyframe;
use super::lineage::Node;
use super::options::{BlendOptions, Recipe};
use super::plan::Plan;
use super::scene::{Ground, Plate, Scene, natural_size};
use super::timeline::Timeline;
use super::timing::{Place, place, rounded};
use super::tree::Tree;
use crate::diffusion::{Latent, Model, Priority, Schedule};
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::model::PromptRules;
use crate::progress::Call;
use std::sync::Arc;

/// A transition through keyframes. Shared and usable from any thread; cloning is cheap, and clones
/// share their cache.
///
/// t runs from 0 to the number of keyframes less one (in a loop: to their number, which is the first again);
/// whole numbers are the keyframes. A frame is a pure function of session and t: the same bytes, whatever was asked before.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    tree: Arc<Tree>,
    timeline: Timeline,
    /// The fractions of each segment's leaves on the grid of t, and as the plan has them; one for all where
    /// all have the same plan.
    leaves: Vec<Vec<(f64, f64)>>,
}

impl Session {
    /// A transition through `keyframes`, of which there is at least one. Quick: nothing is computed
    /// before the first frame is asked for, or [`Session::prepare`].
    ///
    /// # Errors
    /// `InvalidArgument` for no keyframes and for options out of their ranges.
    pub fn new(model: &Model, keyframes: &[Keyframe], options: &BlendOptions) -> Result<Self> {
        Session::build(model, keyframes, options, None)
    }

    /// A transition that repaints a part of a picture only: what the mask marks goes through `keyframes`,
    /// and the rest stays the source, bit for bit ([`render_into`](Self::render_into)). Works with models of
    /// nine channels, that were trained for it, and of four. Frames have the source's size.
    ///
    /// # Errors
    /// Those of [`Session::new`]; `InvalidArgument` for a mask of another shape than the source, or one
    /// that marks nothing.
    pub fn inpainting(
        model: &Model,
        keyframes: &[Keyframe],
        options: &BlendOptions,
        inpainting: &Inpainting,
    ) -> Result<Self> {
        let mut keyframes = keyframes.to_vec();
        if let Some(first) = keyframes.first_mut()
            && inpainting.from_source
        {
            let peak = inpainting.peak;
            first.image = Some(KeyframeImage { peak, ..inpainting.source.clone().into() });
        }
        Session::build(model, &keyframes, options, Some(inpainting))
    }

    fn build(
        model: &Model,
        keyframes: &[Keyframe],
        options: &BlendOptions,
        inpainting: Option<&Inpainting>,
    ) -> Result<Self> {
        let keyframes = keyframes.to_vec();
        let mut options = options.clone();
        if options.size.is_none() {
            options.size = natural_size(&keyframes, inpainting, model.info())?;
        }
        let recipe = Recipe::new(&options, model.info())?;
        let plate = inpainting.map(|inpainting| {
            Plate::new(inpainting, recipe.working_size(model.info()), model.info().factor)
        });
        let ground = Ground { plate: plate.transpose()?.map(Arc::new), canvas: None };
        Session::from_recipe(model, keyframes, recipe, ground)
    }

    /// A transition whose options are numbers already.
    pub(super) fn from_recipe(
        model: &Model,
        mut keyframes: Vec<Keyframe>,
        recipe: Recipe,
        ground: Ground,
    ) -> Result<Self> {
        // With the tokenizer's rules of 2022 goes how prompts were typed then.
        if recipe.prompt_rules == PromptRules::OpenClip {
            for keyframe in &mut keyframes {
                keyframe.prompt = keyframe.prompt.replace('_', " ");
                // In 2023 prompts only.
                if !recipe.plan.is_nested() {
                    keyframe.negative_prompt = keyframe.negative_prompt.replace('_', " ");
                }
            }
        }
        const MOST: usize = 10_000;
        if !(1..=MOST).contains(&keyframes.len()) {
            return Err(Error::invalid(format!(
                "{} keyframes: wanted 1 to {MOST}",
                keyframes.len()
            )));
        }
        if recipe.looped && keyframes.len() < 2 {
            return Err(Error::invalid("a loop of 1 keyframe: wanted at least 2"));
        }
        let repaints = ground.plate.is_some();
        keyframes.iter().try_for_each(|keyframe| keyframe.check(&recipe, model, repaints))?;
        let [width, height] = recipe.working_size(model.info());
        model.check_memory([width, height])?;
        let scene = Scene::new(&keyframes, &ground, [width, height])?.map(Arc::new);
        let tree = Tree::new(model.clone(), keyframes, recipe, scene);
        let timeline = Timeline::linear(tree.segments(), tree.recipe().looped);
        Ok(Session::around(Arc::new(tree), timeline))
    }

    /// A session over a tree that may be shared with others.
    pub(super) fn around(tree: Arc<Tree>, timeline: Timeline) -> Self {
        let plans = match &tree.recipe().plans {
            Some(plans) => plans.iter().collect(),
            None => vec![&tree.recipe().plan],
        };
        let leaves = |plan: &&Plan| {
            plan.leaves().into_iter().map(|fraction| (rounded(fraction), fraction)).collect()
        };
        let leaves = plans.iter().map(leaves).collect();
        Session(Arc::new(Inner { tree, timeline, leaves }))
    }

    pub(super) fn tree(&self) -> &Arc<Tree> {
        &self.0.tree
    }

    /// The leaves of one segment.
    fn leaves_of(&self, segment: usize) -> &[(f64, f64)] {
        &self.0.leaves[segment.min(self.0.leaves.len() - 1)]
    }

    /// How time goes: which t each moment shows. As time goes, unless [`Session::timed`] made it another.
    pub fn timeline(&self) -> &Timeline {
        &self.0.timeline
    }

    /// Whether the last keyframe leads back to the first.
    pub fn looped(&self) -> bool {
        self.0.tree.recipe().looped
    }

    /// Segments: one less than keyframes, or as many in a loop.
    pub fn segments(&self) -> usize {
        self.0.tree.segments()
    }

    /// The keyframes, as they are used.
    pub fn keyframes(&self) -> &[Keyframe] {
        self.0.tree.keyframes()
    }

    /// The highest t.
    pub fn last_t(&self) -> f64 {
        self.segments() as f64
    }

    /// The tree that was planned for every segment.
    pub fn plan(&self) -> &Plan {
        &self.0.tree.recipe().plan
    }

    /// The tree of one segment: [`Session::plan`], unless its branches were placed by what they show
    /// ([`Session::adapted`]).
    pub fn plan_of(&self, segment: usize) -> &Plan {
        self.0.tree.recipe().plan_of(segment)
    }

    /// The steps of every run.
    pub fn schedule(&self) -> &Schedule {
        &self.0.tree.recipe().schedule
    }

    /// Width and height of a frame in pixels: as the model makes it, or, in a session with pictures, those
    /// of the source or of the first keyframe's image.
    pub fn size(&self) -> [usize; 2] {
        self.0.tree.scene().map_or_else(|| self.working_size(), |scene| scene.canvas.size)
    }

    /// Width and height in pixels at which the model works.
    pub fn working_size(&self) -> [usize; 2] {
        self.0.tree.working_size()
    }

    /// The t of every leaf of the plan, rising: the frames that the versions of 2022 and 2023 would compute.
    pub fn leaves(&self) -> Vec<f64> {
        let segments = self.segments();
        let of = |segment: usize| {
            let leaves = self.leaves_of(segment);
            // The last leaf of a segment is the first of the next.
            let inner = leaves[..leaves.len() - 1].iter();
            inner.map(move |(fraction, _)| segment as f64 + fraction)
        };
        (0..segments).flat_map(of).chain([segments as f64]).collect()
    }

    /// Computes, and keeps as far as the cache allows, what frames start from. Optional: a frame that
    /// is asked for before does its own part. May take long; reports and can be cancelled, and then
    /// goes on where it was when called again.
    pub fn prepare(&self, call: &Call<'_>) -> Result<()> {
        self.0.tree.prepare(call)
    }

    /// The frame at `t`. Takes the last block's steps and a decode when prepared; more when not.
    ///
    /// # Errors
    /// `InvalidArgument` for a t outside the transition, `Cancelled`, and what the device reports.
    pub fn render(&self, t: f64, call: &Call<'_>) -> Result<Frame> {
        let mut frames = self.render_many(&[t], call)?;
        frames.pop().ok_or_else(|| Error::internal("no frame came back"))
    }

    /// The frames at each of `times`, denoised together: the same bytes as one by one, only sooner.
    pub fn render_many(&self, times: &[f64], call: &Call<'_>) -> Result<Vec<Frame>> {
        let tree = &self.0.tree;
        if let Some(scene) = tree.scene() {
            return self.composed(scene, times, call);
        }
        let wanted = self.placed(times)?;
        let _urgent = tree.model().urgent();
        let mut meter = tree.meter(call, &wanted, wanted.len());
        tree.frames(&wanted, &mut meter)
    }

    /// The finished latents at each of `times`, from which the frames are decoded.
    pub fn latents(&self, times: &[f64], call: &Call<'_>) -> Result<Vec<Latent>> {
        let tree = &self.0.tree;
        let wanted = self.placed(times)?;
        let _urgent = tree.model().urgent();
        let mut meter = tree.meter(call, &wanted, 0);
        let trails = tree.finish(&wanted, Priority::Urgent, &mut meter)?;
        Ok(wanted.iter().map(|(node, _)| trails[node].last().latent.clone()).collect())
    }

    /// Evaluations of the UNet that the frames at `times` would take now.
    pub fn evaluations(&self, times: &[f64]) -> Result<usize> {
        let mut placed = self.placed(times)?;
        if let Some(scene) = self.0.tree.scene() {
            (placed, _) = self.needed(scene, &placed, |k| scene.reconstruction(k).is_some());
        }
        Ok(self.0.tree.evaluations(&placed))
    }

    /// Evaluations of the UNet that [`Session::prepare`] would take now; 0 when it has been.
    pub fn evaluations_to_prepare(&self) -> usize {
        self.0.tree.evaluations_to_prepare()
    }

    /// Evaluations of the UNet that were made for this session so far, those of cancelled calls included.
    pub fn evaluated(&self) -> u64 {
        self.0.tree.evaluated()
    }

    /// All memory that the session holds besides the model, in bytes: what can be made again
    /// ([`Session::cached_bytes`]), the conditioning of prompts, pictures with what was made of them, and what
    /// its keyframes brought along. Pictures that several sessions share count in each. The model's own is [`Model::memory_bytes`].
    pub fn memory_bytes(&self) -> u64 {
        self.0.tree.memory_bytes()
    }

    /// Lets go of everything that can be made again.
    pub fn purge(&self) {
        self.0.tree.cache().retain(|_| false);
        if let Some(scene) = self.0.tree.scene() {
            scene.forget();
        }
    }

    /// Memory that is held for latents that can be made again, in bytes; never above the limit in the
    /// options.
    pub fn cached_bytes(&self) -> usize {
        self.0.tree.cache().bytes()
    }

    /// The branch of each t. A t that is a leaf's takes the leaf's own fraction, which the grid of t
    /// may miss by a last bit.
    pub(super) fn placed(&self, times: &[f64]) -> Result<Vec<(Node, Place)>> {
        let one = |&t: &f64| {
            let mut place = place(t, self.segments() + 1)?;
            let leaves = self.leaves_of(place.segment);
            let index = leaves.partition_point(|(leaf, _)| *leaf < place.fraction);
            if let Some((leaf, exact)) = leaves.get(index)
                && *leaf == place.fraction
            {
                place.fraction = *exact;
            }
            Ok((self.0.tree.leaf(place), place))
        };
        times.iter().map(one).collect()
    }
}
