//! In: work that goes on in turns of one UNet evaluation or one decode. Out: its result, on the thread
//! that asked. One thread per device takes the turns, so that callers of any number share the device in
//! order and an urgent call overtakes a patient one at the next turn. Between turns it sees to what has its time.
//! A device that does two things at once has a second thread, for what is asked to go beside the rest.

use crate::error::{Error, ErrorKind, Result, THREAD_NAME, guarded};
use crate::progress::Cancel;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::any::Any;
use std::marker::PhantomData;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How long a waiting caller sleeps before it looks at its token and callback again.
const SLICE: Duration = Duration::from_millis(20);

/// Which work takes the next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    /// `prepare`: nobody waits for a picture.
    Patient,
    /// `render`: a frame is wanted.
    Urgent,
}

/// What a turn of work came to.
pub(crate) enum Turn<T> {
    More,
    Done(T),
}

/// What has its time and not its caller.
pub(super) trait Chore: Send + Sync {
    /// Does what is due at `now`, and says when to ask again; `None`: when stirred.
    fn tend(&self, now: Instant) -> Option<Instant>;
}

type Boxed = Box<dyn Any + Send>;
type Work = Box<dyn FnMut() -> Result<Turn<Boxed>> + Send>;

struct Job {
    number: u64,
    /// Whose turns it takes: 0, or 1 beside them.
    thread: usize,
    priority: Priority,
    work: Work,
    /// Looked at before each turn: the caller may sleep for a slice, and small turns are shorter.
    cancel: Option<Cancel>,
    ticket: Arc<Ticket>,
}

/// What caller and device thread share about one job.
#[derive(Default)]
struct Ticket {
    state: Mutex<TicketState>,
    changed: Condvar,
}

#[derive(Default)]
struct TicketState {
    turns: usize,
    abandoned: bool,
    outcome: Option<Result<Boxed>>,
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    next: u64,
    /// Calls that wait for a picture, between whose jobs no patient job may slip in.
    urgent: usize,
    chores: Vec<Weak<dyn Chore>>,
    /// Some chore may be due at another time than it was.
    stirred: bool,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

/// The threads of one device and the work that waits for them.
pub(crate) struct Executor {
    shared: Arc<Shared>,
    threads: usize,
}

/// Work that goes on while its caller does other things. Dropped, it is abandoned before its next turn.
pub(crate) struct Pending<T> {
    ticket: Arc<Ticket>,
    value: PhantomData<fn() -> T>,
}

impl Executor {
    /// The executor of the device called `name`, shared by all models on it. Its threads end when the last of them is
    /// gone. `both`: the device does two things at once.
    pub(crate) fn of(name: &str, both: bool) -> Result<Arc<Self>> {
        static KNOWN: Mutex<Vec<(String, Weak<Executor>)>> = Mutex::new(Vec::new());
        let mut known = KNOWN.lock();
        known.retain(|(_, executor)| executor.strong_count() > 0);
        let found = known.iter().find(|(device, _)| device == name);
        if let Some(executor) = found.and_then(|(_, executor)| executor.upgrade()) {
            return Ok(executor);
        }
        let executor = Arc::new(Executor::new(name, both)?);
        known.push((name.to_owned(), Arc::downgrade(&executor)));
        Ok(executor)
    }

    fn new(name: &str, both: bool) -> Result<Self> {
        let threads = 1 + usize::from(both);
        // Dropped where a thread cannot be had, it ends those that could.
        let executor = Executor { shared: Arc::default(), threads };
        for thread in 0..threads {
            let shared = Arc::clone(&executor.shared);
            let named = match thread {
                0 => format!("{THREAD_NAME}-{name}"),
                _ => format!("{THREAD_NAME}-{name}-{thread}"),
            };
            std::thread::Builder::new()
                .name(named)
                .spawn(move || serve(&shared, thread))
                .map_err(|e| Error::new(ErrorKind::Device, format!("no thread for {name}: {e}")))?;
        }
        Ok(executor)
    }

    /// Tends `chore` for as long as it is there.
    pub(super) fn see_to(&self, chore: Weak<dyn Chore>) {
        let mut queue = self.shared.queue.lock();
        queue.chores.retain(|chore| chore.strong_count() > 0);
        queue.chores.push(chore);
        drop(queue);
        self.stir();
    }

    /// Asks all chores anew when they are due.
    pub(super) fn stir(&self) {
        self.shared.queue.lock().stirred = true;
        self.shared.filled.notify_all();
    }

    /// Holds patient work back until the result is dropped.
    pub(crate) fn urgent(&self) -> Urgency {
        self.shared.queue.lock().urgent += 1;
        Urgency(Arc::clone(&self.shared))
    }

    /// Runs `work` turn by turn on the device thread. `watch` is called on this thread with the number
    /// of turns taken, at least every 20 ms; its error abandons the work before its next turn, as does
    /// `cancel`.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        priority: Priority,
        cancel: Option<Cancel>,
        work: impl FnMut() -> Result<Turn<T>> + Send + 'static,
        watch: impl FnMut(usize) -> Result<()>,
    ) -> Result<T> {
        self.begin(0, priority, cancel, work).wait(watch)
    }

    /// Begins urgent `work` beside what [`run`](Self::run) runs, or between its turns where the device does one thing at
    /// a time.
    pub(crate) fn beside<T: Send + 'static>(
        &self,
        cancel: Option<Cancel>,
        work: impl FnMut() -> Result<Turn<T>> + Send + 'static,
    ) -> Pending<T> {
        self.begin(self.threads - 1, Priority::Urgent, cancel, work)
    }

    fn begin<T: Send + 'static>(
        &self,
        thread: usize,
        priority: Priority,
        cancel: Option<Cancel>,
        mut work: impl FnMut() -> Result<Turn<T>> + Send + 'static,
    ) -> Pending<T> {
        let ticket = Arc::new(Ticket::default());
        let work: Work = Box::new(move || {
            Ok(match work()? {
                Turn::More => Turn::More,
                Turn::Done(value) => Turn::Done(Box::new(value) as Boxed),
            })
        });
        let mut queue = self.shared.queue.lock();
        let number = queue.next;
        queue.next += 1;
        let job = Job { number, thread, priority, work, cancel, ticket: Arc::clone(&ticket) };
        queue.jobs.push(job);
        drop(queue);
        self.shared.filled.notify_all();
        Pending { ticket, value: PhantomData }
    }
}

impl<T: 'static> Pending<T> {
    /// What the work came to. `watch` is called on this thread as in [`Executor::run`].
    pub(crate) fn wait(self, mut watch: impl FnMut(usize) -> Result<()>) -> Result<T> {
        let ticket = &self.ticket;
        loop {
            let (turns, outcome) = {
                let mut state = ticket.state.lock();
                if state.outcome.is_none() {
                    ticket.changed.wait_for(&mut state, SLICE);
                }
                (state.turns, state.outcome.take())
            };
            let value = outcome.transpose()?;
            watch(turns)?;
            if let Some(value) = value {
                let value = value.downcast::<T>().map(|value| *value);
                return value.map_err(|_| Error::internal("a job's result"));
            }
        }
    }
}

impl<T> Pending<T> {
    /// Why the work has failed, if it has by now: whoever has more to begin need not. Nothing waits, and it is told once.
    pub(crate) fn failure(&self) -> Option<Error> {
        let mut state = self.ticket.state.lock();
        let failed = matches!(state.outcome, Some(Err(_)));
        if failed { state.outcome.take()?.err() } else { None }
    }
}

/// On every way out, a callback's panic included.
impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        self.ticket.state.lock().abandoned = true;
    }
}

/// Keeps patient work from taking turns while a call that wants a picture goes from job to job.
pub(crate) struct Urgency(Arc<Shared>);

impl Drop for Urgency {
    fn drop(&mut self) {
        self.0.queue.lock().urgent -= 1;
        self.0.filled.notify_all();
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.filled.notify_all();
    }
}

/// Drops what a job holds: an engine's own code, which may be a caller's.
fn discard(job: Job) {
    // A panic there must not end the device's thread; there is nobody to tell.
    let _ = guarded(|| drop(job));
}

/// Does what is due, and says when there is more to do.
fn tend(chores: Vec<Weak<dyn Chore>>) -> Option<Instant> {
    let now = Instant::now();
    // The last owner of a chore may be gone meanwhile, and it then goes here.
    let one = |chore: Weak<dyn Chore>| guarded(|| chore.upgrade()?.tend(now)).ok().flatten();
    chores.into_iter().filter_map(one).min()
}

/// Takes the turns of one thread until the executor is dropped. The first sees to chores.
fn serve(shared: &Shared, thread: usize) {
    let mut due: Option<Instant> = None;
    loop {
        let mut job = {
            let mut queue = shared.queue.lock();
            loop {
                let left = |job: &mut Job| job.ticket.state.lock().abandoned;
                let abandoned: Vec<Job> = queue.jobs.extract_if(.., left).collect();
                if !abandoned.is_empty() {
                    MutexGuard::unlocked(&mut queue, || abandoned.into_iter().for_each(discard));
                    continue;
                }
                let late = due.is_some_and(|due| due <= Instant::now());
                if thread == 0 && (std::mem::take(&mut queue.stirred) || late) {
                    let chores = queue.chores.clone();
                    due = MutexGuard::unlocked(&mut queue, || tend(chores));
                    continue;
                }
                // The most urgent first; among equals the oldest, so that it is finished soonest.
                let held = queue.urgent > 0;
                let next = queue
                    .jobs
                    .iter()
                    .enumerate()
                    .filter(|(_, job)| job.thread == thread)
                    .filter(|(_, job)| !held || job.priority == Priority::Urgent)
                    .max_by_key(|(_, job)| (job.priority, std::cmp::Reverse(job.number)))
                    .map(|(index, _)| index);
                match next {
                    Some(index) => break queue.jobs.swap_remove(index),
                    None if queue.closed && queue.jobs.iter().all(|job| job.thread != thread) => {
                        return;
                    }
                    None => match due {
                        Some(due) => {
                            shared.filled.wait_until(&mut queue, due);
                        }
                        None => shared.filled.wait(&mut queue),
                    },
                }
            }
        };
        let result = match &job.cancel {
            Some(token) if token.requested() => Err(Error::cancelled()),
            _ => guarded(|| (job.work)()).and_then(|turn| turn),
        };
        let ticket = Arc::clone(&job.ticket);
        let outcome = match result {
            Ok(Turn::More) => {
                shared.queue.lock().jobs.push(job);
                None
            }
            // The work is dropped before its caller goes on, so that its memory is free by then.
            Ok(Turn::Done(value)) => {
                discard(job);
                Some(Ok(value))
            }
            Err(error) => {
                discard(job);
                Some(Err(error))
            }
        };
        let mut state = ticket.state.lock();
        state.turns += 1;
        state.outcome = outcome;
        ticket.changed.notify_all();
    }
}
