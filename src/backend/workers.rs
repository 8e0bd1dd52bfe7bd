//! In: a number of threads. Out: [`Workers`], the threads that a model's networks are computed by.
//!
//! They belong to the model and not to who calls it: a host's own threads, and a pool that the host may share
//! with others, are never computed on. A call waits while they work, so that no more of them run than were
//! asked for; models of one number share them, and the device's turns let one model work at a time.

use crate::error::{Error, ErrorKind, Result, THREAD_NAME};
use parking_lot::Mutex;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// More threads are no use to anybody, and each takes memory.
const MOST: usize = 1024;

/// Some threads that work together, or none but the caller's. Cloning is cheap; they end when the last clone
/// is gone.
#[derive(Clone)]
pub(crate) struct Workers(Option<Arc<ThreadPool>>);

impl Workers {
    /// Whoever calls, for devices that compute by themselves, and for tests: what is shared among threads is then shared
    /// among those of the pool that the caller is in, or of rayon's own.
    pub(crate) fn caller() -> Self {
        Workers(None)
    }

    /// `count` threads; 0: one for each core that this process may use.
    ///
    /// # Errors
    /// `InvalidArgument` for more than 1024, `Device` where the system has none left.
    pub(crate) fn new(count: usize) -> Result<Self> {
        static ALL: Mutex<BTreeMap<usize, Weak<ThreadPool>>> = Mutex::new(BTreeMap::new());
        if count > MOST {
            return Err(Error::invalid(format!("{count} threads: wanted 0 (all cores) to {MOST}")));
        }
        let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(MOST);
        let count = if count == 0 { cores() } else { count };
        let mut all = ALL.lock();
        if let Some(pool) = all.get(&count).and_then(Weak::upgrade) {
            return Ok(Workers(Some(pool)));
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|index| format!("{THREAD_NAME}-{index}"))
            .build()
            .map_err(|e| Error::new(ErrorKind::Device, format!("{count} threads: {e}")))?;
        let pool = Arc::new(pool);
        all.retain(|_, pool| pool.strong_count() > 0);
        all.insert(count, Arc::downgrade(&pool));
        Ok(Workers(Some(pool)))
    }

    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.0.as_ref().map_or(1, |pool| pool.current_num_threads())
    }

    /// Runs `work` on them; the caller waits.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.0 {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn models_of_one_number_share_their_threads() {
        let (three, again, five) = (Workers::new(3), Workers::new(3), Workers::new(5));
        let (three, again, five) = (three.unwrap(), again.unwrap(), five.unwrap());
        let pool = |workers: &Workers| workers.0.as_ref().map(Arc::as_ptr);
        assert_eq!(pool(&three), pool(&again));
        assert_eq!([three.count(), five.count()], [3, 5]);
        assert_eq!(five.run(rayon::current_num_threads), 5);
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!(Workers::new(0).unwrap().count(), cores.min(MOST));
    }

    #[test]
    fn too_many_threads_are_refused() {
        let error = Workers::new(1025).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(error.message(), "1025 threads: wanted 0 (all cores) to 1024");
    }
}
