//! In: one activation or two side by side. Out: one activation. The residual block that UNet and VAE
//! share.

use super::layers::Layers;
use crate::backend::{Activation, Add, Backend, ConvSpec, NormSpec, Sources};
use crate::error::Result;

/// norm, SiLU, convolution, time embedding, norm, SiLU, convolution, residual.
pub(crate) struct Resnet<B: Backend> {
    norm1: B::Norm,
    conv1: B::Conv,
    norm2: B::Norm,
    conv2: B::Conv,
    shortcut: Option<B::Conv>,
}

impl<B: Backend> Resnet<B> {
    pub(crate) fn load(
        layers: &mut Layers<'_, '_, B>,
        name: &str,
        [input, output]: [usize; 2],
        norm: NormSpec,
    ) -> Result<Self> {
        let at = |part: &str| format!("{name}.{part}");
        let same = ConvSpec::same(1);
        Ok(Resnet {
            norm1: layers.norm(&at("norm1"), input, norm)?,
            conv1: layers.conv(&at("conv1"), [input, output], 3, same)?,
            norm2: layers.norm(&at("norm2"), output, norm)?,
            conv2: layers.conv(&at("conv2"), [output, output], 3, same)?,
            shortcut: if input == output {
                None
            } else {
                let spec = ConvSpec::same(0);
                Some(layers.conv(&at("conv_shortcut"), [input, output], 1, spec)?)
            },
        })
    }

    /// `skip`'s channels are behind those of `x`, if there are any. Both are let go as soon as they were read, if
    /// nobody else has them: at its full size the VAE's picture is its largest tensor. `time` is the projected time
    /// embedding (1, 1, 1, output); the VAE has none.
    pub(crate) fn forward(
        &self,
        backend: &B,
        x: B::Tensor,
        skip: Option<B::Tensor>,
        time: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        let silu = Activation::Silu;
        let time = time.map_or(Add::Nothing, Add::Channels);
        let both = Sources { first: &x, second: skip.as_ref() };
        let hidden = backend.norm_conv2d(both, &self.norm1, silu, &self.conv1, time)?;
        let shortcut = match &self.shortcut {
            Some(conv) => {
                let shortcut = backend.conv2d(both, conv, Add::Nothing)?;
                drop((x, skip));
                shortcut
            }
            // Two sources always change the number of channels, so here is only one.
            None => x,
        };
        let add = Add::Residual(&shortcut);
        backend.norm_conv2d((&hidden).into(), &self.norm2, silu, &self.conv2, add)
    }
}
