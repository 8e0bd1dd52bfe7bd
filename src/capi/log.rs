//! In: what the library has to say. Out: the same, to a callback, or to stderr where LATENTBLEND_LOG
//! asks for it; otherwise nowhere.

use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::RwLock;
use std::ffi::{CString, c_char, c_void};
use std::io::Write;
use std::sync::Once;

/// How grave a message is; a callback is told those up to the level it asked for.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_log_level = u32;

/// Nothing.
pub const LB_LOG_OFF: lb_log_level = 0;
/// What failed.
pub const LB_LOG_ERROR: lb_log_level = 1;
/// What went otherwise than a caller may think: the end of a prompt that was dropped, say.
pub const LB_LOG_WARN: lb_log_level = 2;
/// What happened, failed calls included.
pub const LB_LOG_INFO: lb_log_level = 3;
/// Every call with its parameters.
pub const LB_LOG_DEBUG: lb_log_level = 4;

/// Is told a message. May be called from any thread; must not throw and must not call back into the
/// library. The strings are valid during the call.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_log_fn = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        level: lb_log_level,
        target: *const c_char,
        message: *const c_char,
    ),
>;

struct Callback {
    call: unsafe extern "C" fn(*mut c_void, lb_log_level, *const c_char, *const c_char),
    user: *mut c_void,
    highest: lb_log_level,
}

// SAFETY: the header asks of `call` that it can be called from any thread with `user`.
unsafe impl Send for Callback {}
// SAFETY: as above.
unsafe impl Sync for Callback {}

#[derive(Default)]
struct Sinks {
    callback: Option<Callback>,
    stderr: lb_log_level,
}

struct Logger(RwLock<Sinks>);

static LOGGER: Logger = Logger(RwLock::new(Sinks { callback: None, stderr: LB_LOG_OFF }));

fn number(level: Level) -> lb_log_level {
    match level {
        Level::Error => LB_LOG_ERROR,
        Level::Warn => LB_LOG_WARN,
        Level::Info => LB_LOG_INFO,
        Level::Debug | Level::Trace => LB_LOG_DEBUG,
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("latentblend")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = number(record.level());
        let sinks = self.0.read();
        let text = record.args().to_string();
        if level <= sinks.stderr {
            // A closed stderr is nobody's fault.
            let _ = writeln!(std::io::stderr(), "latentblend: {}: {text}", record.level());
        }
        let Some(callback) = sinks.callback.as_ref().filter(|c| level <= c.highest) else { return };
        let line = |text: &str| CString::new(text.replace('\0', "\\0")).unwrap_or_default();
        let (target, message) = (line(record.target()), line(&text));
        // SAFETY: the strings are NUL-ended and live during the call; the header asks the rest of the
        // caller.
        unsafe { (callback.call)(callback.user, level, target.as_ptr(), message.as_ptr()) };
    }

    fn flush(&self) {}
}

fn apply(sinks: &Sinks) {
    let highest = sinks.callback.as_ref().map_or(LB_LOG_OFF, |c| c.highest).max(sinks.stderr);
    ::log::set_max_level(match highest {
        LB_LOG_OFF => LevelFilter::Off,
        LB_LOG_ERROR => LevelFilter::Error,
        LB_LOG_WARN => LevelFilter::Warn,
        LB_LOG_INFO => LevelFilter::Info,
        _ => LevelFilter::Debug,
    });
}

/// Reads LATENTBLEND_LOG, once.
pub(super) fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let wanted = std::env::var("LATENTBLEND_LOG").unwrap_or_default();
        let names = ["off", "error", "warn", "info", "debug"];
        if let Some(level) = names.iter().position(|name| *name == wanted.to_lowercase())
            && level > 0
            && ::log::set_logger(&LOGGER).is_ok()
        {
            let mut sinks = LOGGER.0.write();
            sinks.stderr = level as lb_log_level;
            apply(&sinks);
        }
    });
}

/// Sends messages up to `max_level` to `fn`; NULL for `fn` silences. Replaces the callback before; once
/// this returns, that one is not called any more. Any thread, at once; not from within a callback.
/// Since 0.1.
///
/// # Safety
/// `user` stays valid, and `fn` callable from any thread, until it is replaced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_set_log_callback(
    r#fn: lb_log_fn,
    user: *mut c_void,
    max_level: lb_log_level,
) {
    start();
    // Fails where a Rust host has a logger of its own: then that one is told.
    let _ = ::log::set_logger(&LOGGER);
    let mut sinks = LOGGER.0.write();
    sinks.callback = r#fn.map(|call| Callback { call, user, highest: max_level.min(LB_LOG_DEBUG) });
    apply(&sinks);
}
