//! In: packed weights and activations in the memory of an NVIDIA device. Out: activations. Weights and activations are
//! 16-bit numbers, channels last; every sum is f32.
//!
//! Everything runs by kernels of our own (kernels/*.cu) with the driver alone: no library of CUDA's is needed, none
//! chooses another way to add for another batch, and every launch can be recorded. `docs/cuda.md` has the reasons.

mod back;
mod calls;
mod capture;
mod code;
mod device;
mod driver;
mod image;
mod kernels;
mod lane;
mod lent;
mod memory;
mod owner;
mod queue;
mod replay;
mod ring;
mod search;
mod space;
mod tensor;
mod tile;

pub use driver::{CudaDriver, CudaInfo};
pub use image::CudaImage;
pub use lent::{Conversion as CudaConversion, CudaPicture};
pub use replay::CudaReplays;
pub use search::{DRIVER as CUDA_DRIVER, folders as cuda_folders};
pub use tensor::Tensor as CudaTensor;
pub use tile::CudaTile;

use crate::backend::{
    Activation, Add, Backend, ConvSpec, Footprint, HostTensor, NormSpec, Numerics, Precision,
    Replayable, Sources,
};
use crate::error::Result;
use device::Device;
use lane::Lane;
use parking_lot::Mutex;
use queue::{Around, Queue};
use replay::Recordings;
use std::sync::Arc;
use tensor::{Norm, Tensor, Weight};

/// Numbers of branches that an evaluation is filled up to, so that few are recorded.
const BUCKETS: [usize; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];

/// What the weights of a layer take.
fn packed_bytes(outputs: usize, inputs: usize, taps: usize) -> u64 {
    let k = inputs.next_multiple_of(8).saturating_mul(taps).next_multiple_of(32);
    (outputs as u64).saturating_mul(k as u64).saturating_mul(2)
}

/// The backend of one device.
pub struct Cuda {
    queue: Queue,
    recordings: Mutex<Recordings>,
}

impl Cuda {
    /// Device `ordinal` of `driver`, with weights and activations in `precision`.
    ///
    /// # Errors
    /// `InvalidArgument` where there is no such device, `Unsupported` where it cannot be used or doesn't compute
    /// in that precision, `Device`.
    pub fn new(driver: &Arc<CudaDriver>, ordinal: u32, precision: Precision) -> Result<Self> {
        let precision = driver.device(ordinal)?.computes_in(precision)?;
        let lane = Lane::first(Device::open(driver, ordinal)?);
        let queue = Queue { lane, precision, tile: Mutex::default() };
        Ok(Cuda { queue, recordings: Mutex::default() })
    }

    /// What the device is.
    pub fn info(&self) -> &CudaInfo {
        &self.queue.lane.info
    }

    /// The numbers that it holds: f16 or bf16.
    pub fn precision(&self) -> Precision {
        self.queue.precision
    }

    /// Waits until all that is queued where this backend's networks run is done, also by other models on the device; not
    /// for what is decoded beside it.
    ///
    /// # Errors
    /// `Device` where some of it failed.
    pub fn wait(&self) -> Result<()> {
        self.queue.lane.wait()
    }

    /// Whether the device has stopped to answer.
    pub fn is_lost(&self) -> bool {
        self.queue.lane.is_lost()
    }

    /// The most memory that all models on this device may take together, in bytes.
    pub fn limit_memory(&self, bytes: Option<u64>) {
        self.queue.lane.memory.lock().limit = bytes;
    }

    /// What all models on this device hold of its memory, in bytes.
    pub fn memory_held(&self) -> u64 {
        self.queue.lane.memory.lock().held()
    }

    /// What was recorded on this device, by all models on it, since it was opened.
    pub fn replays(&self) -> CudaReplays {
        self.queue.lane.replays.lock().clone()
    }

    /// Which tile the products of this backend are computed in from now on: any gives the same bits.
    pub fn force_tile(&self, tile: CudaTile) {
        *self.queue.tile.lock() = tile;
    }

    /// What is free of the device's memory, whoever has the rest, and all of it, in bytes.
    ///
    /// # Errors
    /// `Device`.
    pub fn memory_free(&self) -> Result<[u64; 2]> {
        self.queue.lane.free()
    }

    fn packed(
        &self,
        weight: &HostTensor,
        bias: Option<&HostTensor>,
        spec: ConvSpec,
        gated: bool,
    ) -> Result<Weight> {
        Weight::new(&self.queue.lane, self.queue.precision, weight, bias, spec, gated)
    }
}

impl Backend for Cuda {
    type Tensor = Tensor;
    type Conv = Weight;
    type Linear = Weight;
    type Norm = Norm;

    fn weight_bytes(&self, numbers: u64) -> u64 {
        numbers * 2
    }

    fn footprint(&self) -> Footprint {
        Footprint {
            value: |_| size_of::<u16>(),
            // What steps that are recorded keep beside the arena: their inputs, and pieces that aren't full.
            idle: 128 << 20,
            thread: 0,
            // What is normalised before it is convolved; all else is read where it lies.
            copied: |x| match x.normed {
                true => 2 * x.joined().iter().product::<usize>() as u64,
                false => 0,
            },
            conv: |[outputs, inputs, height, width], _, _| {
                packed_bytes(outputs, inputs, height * width)
            },
            linear: |[outputs, inputs], _| packed_bytes(outputs, inputs, 1),
        }
    }

    fn trim(&self) -> u64 {
        let lane = &self.queue.lane;
        self.recordings.lock().clear(lane);
        lane.take_back();
        let Ok(_entered) = lane.enter() else { return 0 };
        let mut memory = lane.memory.lock();
        let before = memory.held();
        memory.trim(lane);
        before - memory.held()
    }

    fn numerics(&self) -> Numerics {
        let [major, minor] = self.queue.lane.info.capability;
        Numerics {
            device: "cuda".into(),
            kernels: format!("mma 1, compute capability {major}.{minor}"),
            precision: self.queue.precision.name().into(),
        }
    }

    fn conv(&self, weight: HostTensor, bias: Option<HostTensor>, spec: ConvSpec) -> Result<Weight> {
        self.packed(&weight, bias.as_ref(), spec, false)
    }

    fn linear(&self, weight: HostTensor, bias: Option<HostTensor>) -> Result<Weight> {
        self.packed(&weight, bias.as_ref(), ConvSpec::same(0), false)
    }

    fn gated(&self, weight: HostTensor, bias: Option<HostTensor>) -> Result<Weight> {
        self.packed(&weight, bias.as_ref(), ConvSpec::same(0), true)
    }

    fn norm(&self, scale: HostTensor, shift: HostTensor, spec: NormSpec) -> Result<Norm> {
        Norm::new(&self.queue.lane, &scale, &shift, spec)
    }

    fn upload(&self, host: &HostTensor) -> Result<Tensor> {
        let mut shape = [1; 4];
        shape.iter_mut().zip(host.shape()).for_each(|(to, &side)| *to = side);
        let x = Tensor::new(&self.queue.lane, shape, true)?;
        self.queue.lane.copy_in(x.address(), host.data())?;
        Ok(x)
    }

    fn download(&self, x: &Tensor) -> Result<HostTensor> {
        let wide = match x.f32 {
            true => x.clone(),
            false => self.queue.assembled(x.into(), x.channels(), true)?,
        };
        let mut values = vec![0.0; x.shape.iter().product()];
        self.queue.lane.copy_out(&mut values, wide.address())?;
        HostTensor::new(x.shape, values)
    }

    fn shape(&self, x: &Tensor) -> [usize; 4] {
        x.shape
    }

    fn gather(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor> {
        self.queue.gathered(x, rows)
    }

    fn conv2d(
        &self,
        x: Sources<'_, Tensor>,
        conv: &Weight,
        add: Add<'_, Tensor>,
    ) -> Result<Tensor> {
        self.queue.product(x, conv, Around::adding(add))
    }

    fn norm_conv2d(
        &self,
        x: Sources<'_, Tensor>,
        norm: &Norm,
        activation: Activation,
        conv: &Weight,
        add: Add<'_, Tensor>,
    ) -> Result<Tensor> {
        let x = self.queue.normalized(x, norm, activation)?;
        self.queue.product((&x).into(), conv, Around::adding(add))
    }

    fn upsample_conv2d(
        &self,
        x: &Tensor,
        height: usize,
        width: usize,
        conv: &Weight,
    ) -> Result<Tensor> {
        let around = Around { enlarged: Some([height, width]), ..Around::adding(Add::Nothing) };
        self.queue.product(x.into(), conv, around)
    }

    fn normalize(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        self.queue.normalized(x.into(), norm, Activation::Identity)
    }

    fn dense(
        &self,
        x: &Tensor,
        linear: &Weight,
        activation: Activation,
        add: Add<'_, Tensor>,
    ) -> Result<Tensor> {
        self.queue.product(x.into(), linear, Around { activation, ..Around::adding(add) })
    }

    fn norm_dense(
        &self,
        x: &Tensor,
        norm: &Norm,
        linear: &Weight,
        activation: Activation,
    ) -> Result<Tensor> {
        self.dense(&self.normalize(x, norm)?, linear, activation, Add::Nothing)
    }

    fn norm_geglu(&self, x: &Tensor, norm: &Norm, linear: &Weight) -> Result<Tensor> {
        let x = self.normalize(x, norm)?;
        let around = Around { gated: true, ..Around::adding(Add::Nothing) };
        self.queue.product((&x).into(), linear, around)
    }

    fn self_attention(&self, qkv: &Tensor, heads: usize, causal: bool) -> Result<Tensor> {
        let qkv = self.queue.halved(qkv)?;
        let channels = qkv.channels() / 3;
        self.queue.attention(&qkv, (&qkv, channels), channels, None, heads, causal)
    }

    fn cross_attention(
        &self,
        q: &Tensor,
        keys_values: &Tensor,
        rows: &[usize],
        heads: usize,
    ) -> Result<Tensor> {
        let (q, both) = (self.queue.halved(q)?, self.queue.halved(keys_values)?);
        self.queue.attention(&q, (&both, 0), q.channels(), Some(rows), heads, false)
    }

    fn combine(&self, terms: &[(&Tensor, &[f32])]) -> Result<Tensor> {
        self.queue.combined(terms)
    }

    fn branches(&self) -> usize {
        BUCKETS[BUCKETS.len() - 1]
    }

    fn reaches(&self, image: &CudaImage) -> bool {
        let lane = &self.queue.lane;
        image.is_of(lane.info.ordinal, lane.context)
    }

    fn picture(&self, x: &Tensor) -> Option<CudaPicture> {
        CudaPicture::new(&self.queue.lane, x)
    }

    fn converts(&self) -> bool {
        true
    }

    fn bucket(&self, branches: usize) -> usize {
        BUCKETS.into_iter().find(|&bucket| bucket >= branches).unwrap_or(branches)
    }

    fn beside(&self) -> Result<Option<Self>> {
        let Some(lane) = self.queue.lane.beside() else { return Ok(None) };
        // What it reads is there from now on.
        self.wait()?;
        let tile = Mutex::new(*self.queue.tile.lock());
        let queue = Queue { lane, precision: self.queue.precision, tile };
        Ok(Some(Cuda { queue, recordings: Mutex::default() }))
    }

    fn held(&self) -> u64 {
        let lane = &self.queue.lane;
        lane.memory.lock().held_by(lane.index())
    }

    fn available(&self) -> Option<u64> {
        self.queue.lane.available().ok()
    }

    fn recorded(
        &self,
        key: &[usize],
        inputs: &[&Tensor],
        step: &Replayable<'_, Tensor>,
    ) -> Result<Tensor> {
        let lane = &self.queue.lane;
        lane.step(|| replay::run(lane, &self.recordings, key, inputs, step))
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        let lane = &self.queue.lane;
        if lane.beside().is_none() {
            // What it reads is the first lane's, and may go there when this returns. A lost device reads nothing.
            let _ = lane.wait();
        }
        self.recordings.get_mut().clear(lane);
        // What is lent holds on to its device.
        self.queue.lane.take_all_back();
    }
}
