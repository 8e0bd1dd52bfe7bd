//! In: a picture on a device, and a caller's image in its memory. Out: the image, written by the device itself, in order
//! with what else is on the caller's stream; nothing is waited for.
//!
//! The engine's stream goes on meanwhile, so what the caller's stream reads is lent to it: it comes back once
//! an event says that it was read.
#![allow(unsafe_code, reason = "functions of the driver")]

use super::calls::{Address, Handle};
use super::device::Device;
use super::image::CudaImage;
use super::kernels::{CONVERT, Convert};
use super::lane::Lane;
use super::memory::Block;
use super::tensor::{Tensor, held};
use crate::error::{Error, Result};
use crate::frame::{Layout, Placement, Tables};

/// CU_EVENT_DISABLE_TIMING
const UNTIMED: u32 = 2;
/// Threads of a block, and the most blocks.
pub(super) const THREADS: u32 = 256;
const BLOCKS: usize = 4096;

/// A decoded picture in the memory of a device.
pub struct CudaPicture {
    pub(super) lane: Lane,
    /// (1, height, width, 3), f32.
    pub(super) values: Tensor,
}

/// What a stream of a caller's reads until an event.
pub(super) struct Lent {
    ready: Handle,
    read: Handle,
    /// Come back to the pool when they are dropped.
    _picture: Tensor,
    _table: Option<Block>,
}

/// A picture on its way into a caller's image.
pub struct Conversion<'a> {
    lane: Lane,
    image: &'a CudaImage,
    parameters: Convert,
    lent: Option<Lent>,
}

impl Conversion<'_> {
    /// Queues it on the image's stream, after what was queued on the device.
    ///
    /// # Errors
    /// `Device`.
    pub fn queue(mut self) -> Result<()> {
        let (lane, stream) = (&self.lane, self.image.stream());
        let Some(lent) = self.lent.take() else { return Ok(()) };
        let blocks = blocks(self.image.layout());
        let queued = lane.after(stream, lent.ready, lane.stream()).and_then(|()| {
            lane.launch_on(stream, CONVERT, [blocks, 1, 1], THREADS, 0, &self.parameters)
        });
        // Also where that failed: what was queued may read it.
        let marked = lane.mark(lent.read, stream);
        if marked.is_err() {
            // The event would say that it was read.
            lane.wait_for(stream);
        }
        lane.lent.lock().push(lent);
        queued.and(marked)
    }
}

impl Drop for Conversion<'_> {
    fn drop(&mut self) {
        // An event that was never recorded is over: it comes back with the next that do.
        self.lane.lent.lock().extend(self.lent.take());
    }
}

impl CudaPicture {
    /// A network's picture; `None` where it isn't one.
    pub(super) fn new(lane: &Lane, values: &Tensor) -> Option<Self> {
        let [n, _, _, channels] = values.shape;
        (n == 1 && channels == 3 && values.f32)
            .then(|| CudaPicture { lane: lane.clone(), values: values.clone() })
    }

    /// Width and height in pixels.
    pub fn size(&self) -> [usize; 2] {
        [self.values.shape[2], self.values.shape[1]]
    }

    /// Queues the picture on the image's own stream: the bytes that [`Frame::write`](crate::Frame::write) writes.
    ///
    /// # Errors
    /// `InvalidArgument` where sizes do not agree, the placement cannot be or the image lies elsewhere; `Device`,
    /// `OutOfMemory`.
    pub fn write(&self, image: &CudaImage, placement: Option<&Placement>) -> Result<()> {
        self.prepare(image, placement)?.queue()
    }

    /// All that [`write`](Self::write) needs; nothing is queued on the image's stream yet. Of many images none is
    /// written where one cannot be.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub fn prepare<'a>(
        &self,
        image: &'a CudaImage,
        placement: Option<&Placement>,
    ) -> Result<Conversion<'a>> {
        let lane = &self.lane;
        if !image.is_of(lane.info.ordinal, lane.context) {
            return Err(Error::invalid("an image in another device's or context's memory"));
        }
        let layout = image.layout();
        let tables = self.tables(layout, placement)?;
        lane.take_back();
        let table = match &tables {
            Some(tables) => Some(held(lane, &tables.words)?),
            None => None,
        };
        let parameters =
            parameters(&self.values, image.top(), layout, tables.as_ref(), table.as_ref())?;
        lane.load(CONVERT)?;
        let [ready, read] = lane.events()?;
        let lent = Lent { ready, read, _picture: self.values.clone(), _table: table };
        let lane = lane.clone();
        Ok(Conversion { lane, image, parameters, lent: Some(lent) })
    }

    /// How the picture is brought into an image; `None`: it has its size.
    pub(super) fn tables(
        &self,
        layout: &Layout,
        placement: Option<&Placement>,
    ) -> Result<Option<Tables>> {
        let (size, target) = (self.size(), [layout.width, layout.height]);
        match placement {
            Some(placement) => placement.tables(size, target).map(Some),
            None if size == target => Ok(None),
            None => Err(Error::invalid(format!(
                "the frame has {}x{} pixels, the image {}x{}: give a placement to resample",
                size[0], size[1], target[0], target[1]
            ))),
        }
    }
}

/// Blocks of threads that write all pixels.
pub(super) fn blocks(layout: &Layout) -> u32 {
    (layout.width * layout.height).div_ceil(THREADS as usize).min(BLOCKS) as u32
}

fn int(value: usize) -> Result<i32> {
    i32::try_from(value).map_err(|_| Error::invalid(format!("a size of {value} on CUDA")))
}

/// What the kernel is told of a picture and of an image whose top row starts at `top`.
pub(super) fn parameters(
    values: &Tensor,
    top: Address,
    layout: &Layout,
    tables: Option<&Tables>,
    table: Option<&Block>,
) -> Result<Convert> {
    let [_, height, width, _] = values.shape;
    let channels = layout.format.channels();
    let mut result = Convert {
        picture: values.address(),
        top,
        row_bytes: layout.row_bytes as i64,
        table: table.map_or(0, Block::address),
        height: int(height)?,
        width: int(width)?,
        tall: int(layout.height)?,
        wide: int(layout.width)?,
        rows: [0, int(layout.height)?],
        columns: [0, int(layout.width)?],
        places: [0; 3],
        channels: int(channels)?,
        bytes: int(layout.format.bytes_per_pixel() / channels)?,
        is_float: layout.format.is_float().into(),
        transfer: layout.transfer as i32,
    };
    if let Some(tables) = tables {
        let [columns, rows] = &tables.inside;
        result.columns = [int(columns.start)?, int(columns.end)?];
        result.rows = [int(rows.start)?, int(rows.end)?];
        for (to, &place) in result.places.iter_mut().zip(&tables.places) {
            *to = int(place)? as u32;
        }
    }
    Ok(result)
}

impl Device {
    /// Two new events.
    fn events(&self) -> Result<[Handle; 2]> {
        let _entered = self.enter()?;
        let calls = &self.driver.calls;
        let mut events = [0; 2];
        // SAFETY: places for handles; the first is not used where there is no second.
        unsafe {
            self.check((calls.event_create)(&mut events[0], UNTIMED), "cuEventCreate")?;
            let status = (calls.event_create)(&mut events[1], UNTIMED);
            if status != 0 {
                (calls.event_destroy)(events[0]);
            }
            self.check(status, "cuEventCreate")?;
        }
        Ok(events)
    }

    /// Looks a kernel up, so that its launch doesn't.
    fn load(&self, name: &'static str) -> Result<()> {
        let _entered = self.enter()?;
        self.function(name).map(|_| ())
    }

    /// Waits for a stream of a caller's. Nobody uses anything on a lost device.
    fn wait_for(&self, stream: Handle) {
        if let Ok(_entered) = self.enter() {
            // SAFETY: a stream of this device by the promise made to `CudaImage::from_raw`.
            unsafe { (self.driver.calls.stream_wait)(stream) };
        }
    }

    /// Lets `stream` go on only after what is now queued on `other`.
    fn after(&self, stream: Handle, event: Handle, other: Handle) -> Result<()> {
        self.mark(event, other)?;
        let _entered = self.enter()?;
        // SAFETY: an event of ours; a stream of this device by the promise made to `CudaImage::from_raw`.
        let status = unsafe { (self.driver.calls.stream_after)(stream, event, 0) };
        self.check(status, "cuStreamWaitEvent")
    }

    fn mark(&self, event: Handle, stream: Handle) -> Result<()> {
        let _entered = self.enter()?;
        // SAFETY: as above.
        let status = unsafe { (self.driver.calls.event_record)(event, stream) };
        self.check(status, "cuEventRecord")
    }

    /// Takes back what was read by now.
    pub(super) fn take_back(&self) {
        self.return_lent(self.driver.calls.event_query);
    }

    /// Takes back everything, after waiting for it.
    pub(super) fn take_all_back(&self) {
        self.return_lent(self.driver.calls.event_wait);
    }

    fn return_lent(&self, ask: unsafe extern "C" fn(Handle) -> i32) {
        /// CUDA_ERROR_NOT_READY
        const NOT_READY: i32 = 600;
        let mut back = Vec::new();
        {
            let mut lent = self.lent.lock();
            let Ok(_entered) = self.enter() else {
                // Nobody reads anything on a lost device.
                back.append(&mut lent);
                return;
            };
            // SAFETY: events of ours.
            let done = |lent: &mut Lent| unsafe { ask(lent.read) } != NOT_READY;
            back.extend(lent.extract_if(.., done));
            for Lent { ready, read, .. } in &back {
                for event in [*ready, *read] {
                    // SAFETY: an event of ours, not used again.
                    unsafe { (self.driver.calls.event_destroy)(event) };
                }
            }
        }
        // Blocks go back to the pool, outside of the lock.
        drop(back);
    }
}
