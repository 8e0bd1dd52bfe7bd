//! In: token ids. Out: the conditioning that the UNet reads, (tokens, width). The text half of
//! OpenCLIP ViT-H/14 as Stable Diffusion 2 ships it: already without its last layer.

use super::layers::Layers;
use super::table::Table;
use crate::backend::{Activation, Add, Backend, HostTensor, NormSpec};
use crate::error::{Error, Result};
use crate::model::TextConfig;

struct Layer<B: Backend> {
    norm1: B::Norm,
    qkv: B::Linear,
    out: B::Linear,
    norm2: B::Norm,
    widen: B::Linear,
    narrow: B::Linear,
}

/// The text encoder.
pub(crate) struct TextEncoder<B: Backend> {
    /// (vocabulary, width), looked up on the host.
    tokens: Table,
    /// (positions, width)
    positions: Table,
    layers: Vec<Layer<B>>,
    final_norm: B::Norm,
    config: TextConfig,
}

impl<B: Backend> TextEncoder<B> {
    pub(crate) fn load(layers: &mut Layers<'_, '_, B>, config: &TextConfig) -> Result<Self> {
        let width = config.width;
        let norm = NormSpec::Layer { epsilon: config.epsilon };
        let embedding = |part: &str| format!("text_model.embeddings.{part}_embedding.weight");
        let mut table = |part: &str, rows: usize| {
            Ok::<_, Error>(Table::new(layers.tensor(&embedding(part), &[rows, width])?))
        };
        let tokens = table("token", config.vocab_size)?;
        let positions = table("position", config.positions)?;
        let mut stack = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let at = |part: &str| format!("text_model.encoder.layers.{index}.{part}");
            let [q, k, v] = ["q", "k", "v"].map(|p| at(&format!("self_attn.{p}_proj")));
            stack.push(Layer {
                norm1: layers.norm(&at("layer_norm1"), width, norm)?,
                qkv: layers.fused(&[&q, &k, &v], [width, width], true)?,
                out: layers.linear(&at("self_attn.out_proj"), [width, width])?,
                norm2: layers.norm(&at("layer_norm2"), width, norm)?,
                widen: layers.linear(&at("mlp.fc1"), [width, config.inner])?,
                narrow: layers.linear(&at("mlp.fc2"), [config.inner, width])?,
            });
        }
        Ok(TextEncoder {
            tokens,
            positions,
            layers: stack,
            final_norm: layers.norm("text_model.final_layer_norm", width, norm)?,
            config: config.clone(),
        })
    }

    /// What the tables take that are looked up on the host, in bytes.
    pub(crate) fn table_bytes(&self) -> u64 {
        self.tokens.bytes() + self.positions.bytes()
    }

    /// What they take at most where their numbers all are f16, or not, in bytes.
    pub(crate) fn table_bytes_of(&self, half: bool) -> u64 {
        self.tokens.bytes_of(half) + self.positions.bytes_of(half)
    }

    /// Tokens of a prompt, and values of each.
    pub(crate) fn shape(&self) -> [usize; 2] {
        [self.config.positions, self.config.width]
    }

    /// (prompts, 1, tokens, width) from prompts of equal length.
    pub(crate) fn forward(&self, backend: &B, prompts: &[&[u32]]) -> Result<HostTensor> {
        let (width, length) = (self.config.width, self.config.positions);
        let mut embedded = vec![0.0; prompts.len() * length * width];
        let mut places = embedded.chunks_exact_mut(width.max(1));
        for ids in prompts {
            if ids.len() != length {
                return Err(Error::internal(format!("{} tokens, wanted {length}", ids.len())));
            }
            for ((position, &id), place) in ids.iter().enumerate().zip(&mut places) {
                if !self.tokens.add(id as usize, place) {
                    return Err(Error::bad_model(format!(
                        "token id {id} is beyond the vocabulary of {}",
                        self.config.vocab_size
                    )));
                }
                self.positions.add(position, place);
            }
        }
        let embedded = HostTensor::new([prompts.len(), 1, length, width], embedded)?;
        let mut x = backend.upload(&embedded)?;
        for layer in &self.layers {
            let plain = Activation::Identity;
            let qkv = backend.norm_dense(&x, &layer.norm1, &layer.qkv, plain)?;
            let mixed = backend.self_attention(&qkv, self.config.heads, true)?;
            x = backend.dense(&mixed, &layer.out, plain, Add::Residual(&x))?;
            let inner = backend.norm_dense(&x, &layer.norm2, &layer.widen, Activation::Gelu)?;
            x = backend.dense(&inner, &layer.narrow, plain, Add::Residual(&x))?;
        }
        backend.download(&backend.normalize(&x, &self.final_norm)?)
    }
}
