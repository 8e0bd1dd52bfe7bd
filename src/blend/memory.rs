//! In: a tree. Out: the memory that it holds besides the model.

use super::keyframe::Kind;
use super::tree::Tree;
use crate::frame::Source;
use std::collections::BTreeMap;

impl Tree {
    /// The memory that latents, conditioning, pictures, and what keyframes brought along take, in bytes.
    /// Pictures that several sessions share count in each.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let contexts: usize = self.contexts.lock().values().map(|c| size_of_val(c.data())).sum();
        let mask = self.empty_mask.lock().as_ref().map_or(0, |latent| latent.bytes());
        let mut brought = 0;
        let mut pictures = BTreeMap::new();
        let mut add = |source: &Source| pictures.extend([source.memory()]);
        for keyframe in self.keyframes() {
            brought += keyframe.start.as_ref().map_or(0, |latent| latent.bytes());
            match keyframe.kind() {
                Kind::Prompt => {}
                Kind::Image(image) => add(&image.source),
                Kind::Origin(origin) => brought += origin.bytes(),
            }
        }
        let scene = self.scene();
        scene.into_iter().flat_map(|scene| scene.sources()).for_each(add);
        let pictures: usize = pictures.into_values().sum();
        let scene = scene.map_or(0, |scene| scene.bytes());
        (self.cache().bytes() + contexts + mask + brought + pictures + scene) as u64
    }
}
