//! In: an activation and the keys and values of prompts. Out: an activation. The transformer of the
//! UNet, and the plain attention of the VAE.

use super::layers::Layers;
use crate::backend::{Activation, Add, Backend, NormSpec};
use crate::error::Result;

/// The epsilon of the group norm before a transformer, which the configuration does not name.
const GROUP_EPSILON: f64 = 1e-6;
const LAYER_NORM: NormSpec = NormSpec::Layer { epsilon: 1e-5 };

/// Group norm, projection, self-attention, cross-attention, GEGLU, projection, residual.
pub(crate) struct Transformer<B: Backend> {
    norm: B::Norm,
    proj_in: B::Linear,
    norm1: B::Norm,
    qkv: B::Linear,
    self_out: B::Linear,
    norm2: B::Norm,
    query: B::Linear,
    keys_values: B::Linear,
    cross_out: B::Linear,
    norm3: B::Norm,
    geglu: B::Linear,
    feed_out: B::Linear,
    proj_out: B::Linear,
    heads: usize,
}

impl<B: Backend> Transformer<B> {
    pub(crate) fn load(
        layers: &mut Layers<'_, '_, B>,
        name: &str,
        channels: usize,
        context: usize,
        heads: usize,
        groups: usize,
    ) -> Result<Self> {
        let outer = |part: &str| format!("{name}.{part}");
        let inner = |part: &str| format!("{name}.transformer_blocks.0.{part}");
        let group = NormSpec::Group { groups, epsilon: GROUP_EPSILON };
        let square = [channels, channels];
        let (q, k, v) = (inner("attn1.to_q"), inner("attn1.to_k"), inner("attn1.to_v"));
        let (ck, cv) = (inner("attn2.to_k"), inner("attn2.to_v"));
        Ok(Transformer {
            norm: layers.norm(&outer("norm"), channels, group)?,
            proj_in: layers.linear(&outer("proj_in"), square)?,
            norm1: layers.norm(&inner("norm1"), channels, LAYER_NORM)?,
            qkv: layers.fused(&[&q, &k, &v], square, false)?,
            self_out: layers.linear(&inner("attn1.to_out.0"), square)?,
            norm2: layers.norm(&inner("norm2"), channels, LAYER_NORM)?,
            query: layers.fused(&[&inner("attn2.to_q")], square, false)?,
            keys_values: layers.fused(&[&ck, &cv], [context, channels], false)?,
            cross_out: layers.linear(&inner("attn2.to_out.0"), square)?,
            norm3: layers.norm(&inner("norm3"), channels, LAYER_NORM)?,
            geglu: layers.gated(&inner("ff.net.0.proj"), [channels, 8 * channels])?,
            feed_out: layers.linear(&inner("ff.net.2"), [4 * channels, channels])?,
            proj_out: layers.linear(&outer("proj_out"), square)?,
            heads,
        })
    }

    /// Keys and values (prompts, 1, tokens, 2 channels) of contexts (prompts, 1, tokens, width): the
    /// same for every step and pixel, so they are computed once.
    pub(crate) fn keys_values(&self, backend: &B, contexts: &B::Tensor) -> Result<B::Tensor> {
        backend.dense(contexts, &self.keys_values, Activation::Identity, Add::Nothing)
    }

    /// `prompts` says which context each sample reads. `fan`, if given, says which of the rows of `x`
    /// each sample starts from: up to the cross-attention the two halves of a guidance pair are the
    /// same, so they are computed once and parted here.
    pub(crate) fn forward(
        &self,
        backend: &B,
        x: &B::Tensor,
        keys_values: &B::Tensor,
        prompts: &[usize],
        fan: Option<&[usize]>,
    ) -> Result<B::Tensor> {
        let plain = Activation::Identity;
        let hidden = backend.norm_dense(x, &self.norm, &self.proj_in, plain)?;
        let qkv = backend.norm_dense(&hidden, &self.norm1, &self.qkv, plain)?;
        let mixed = backend.self_attention(&qkv, self.heads, false)?;
        let hidden = backend.dense(&mixed, &self.self_out, plain, Add::Residual(&hidden))?;
        let (hidden, outer) = match fan {
            Some(rows) => (backend.gather(&hidden, rows)?, &backend.gather(x, rows)?),
            None => (hidden, x),
        };
        let query = backend.norm_dense(&hidden, &self.norm2, &self.query, plain)?;
        let mixed = backend.cross_attention(&query, keys_values, prompts, self.heads)?;
        let hidden = backend.dense(&mixed, &self.cross_out, plain, Add::Residual(&hidden))?;
        let gated = backend.norm_geglu(&hidden, &self.norm3, &self.geglu)?;
        let hidden = backend.dense(&gated, &self.feed_out, plain, Add::Residual(&hidden))?;
        backend.dense(&hidden, &self.proj_out, plain, Add::Residual(outer))
    }
}

/// The VAE's attention: one head over all pixels, with a residual.
pub(crate) struct PixelAttention<B: Backend> {
    norm: B::Norm,
    qkv: B::Linear,
    out: B::Linear,
}

impl<B: Backend> PixelAttention<B> {
    pub(crate) fn load(
        layers: &mut Layers<'_, '_, B>,
        name: &str,
        channels: usize,
        norm: NormSpec,
    ) -> Result<Self> {
        let [q, k, v, out] =
            ["to_q", "to_k", "to_v", "to_out.0"].map(|part| format!("{name}.{part}"));
        let square = [channels, channels];
        Ok(PixelAttention {
            norm: layers.norm(&format!("{name}.group_norm"), channels, norm)?,
            qkv: layers.fused(&[&q, &k, &v], square, true)?,
            out: layers.linear(&out, square)?,
        })
    }

    pub(crate) fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let plain = Activation::Identity;
        let qkv = backend.norm_dense(x, &self.norm, &self.qkv, plain)?;
        let mixed = backend.self_attention(&qkv, 1, false)?;
        backend.dense(&mixed, &self.out, plain, Add::Residual(x))
    }
}
