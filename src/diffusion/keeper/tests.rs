use super::*;
use crate::backend::{Reference, Workers};
use crate::diffusion::{Branch, Sampler, Schedule, Step};
use crate::error::{Error, ErrorKind};
use crate::model::{LoadMeter, PredictionType, Source, TextConfig, UnetConfig, VaeConfig};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

const IDLE: Duration = Duration::from_secs(600);

fn tiny(call: &Call<'_>) -> Result<Pipeline<Reference>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny/base");
    let source = Source::open_path(&path, None)?;
    let (text, unet) = (TextConfig::read(&source)?, UnetConfig::read(&source)?);
    let configs = (&text, &unet, &VaeConfig::read(&source)?);
    let meter = LoadMeter::new(call);
    Pipeline::load(Reference, Workers::new(1)?, &source, &meter, configs, None)
}

/// A keeper, and an executor of its own that is asked for nothing but its time.
fn keeper(
    load: impl Fn(&Call<'_>) -> Result<Pipeline<Reference>> + Send + Sync + 'static,
) -> Keeper<Reference> {
    let executor = Executor::of("keeper", false).unwrap();
    Keeper::new(tiny(&Call::new()).unwrap(), load, Some(IDLE), &executor)
}

#[test]
fn idle_weights_go_at_their_time_and_not_before() {
    let keeper = keeper(tiny);
    let (place, held) = (&keeper.place, keeper.held_bytes());
    let ended = || place.state.lock().since;
    let loaded = ended();
    let nearly = IDLE - Duration::from_millis(1);
    assert!(held > 0);
    assert_eq!(place.tend(loaded), Some(loaded + IDLE));
    assert_eq!(place.tend(loaded + nearly), Some(loaded + IDLE));
    // A call begins the time anew, and while it runs there is none.
    let call = keeper.hold();
    assert_eq!(place.tend(loaded + 2 * IDLE), None);
    assert_eq!(keeper.held_bytes(), held);
    drop(call);
    let ended = ended();
    assert_eq!(place.tend(ended + nearly), Some(ended + IDLE));
    assert_eq!(keeper.held_bytes(), held);
    assert_eq!(place.tend(ended + IDLE), None);
    assert_eq!(keeper.held_bytes(), 0);
    assert_eq!(place.tend(ended + IDLE), None, "nothing is left to go");
    keeper.ready(&Call::new()).unwrap();
    assert_eq!(keeper.held_bytes(), held);
}

#[test]
fn threads_that_call_at_the_same_time_share_one_load() {
    const OTHERS: usize = 3;
    static LOADS: AtomicUsize = AtomicUsize::new(0);
    static WAITING: AtomicUsize = AtomicUsize::new(0);
    let keeper = keeper(|call| {
        LOADS.fetch_add(1, Ordering::SeqCst);
        // Until all others are told of it.
        while WAITING.load(Ordering::SeqCst) < OTHERS {
            std::thread::yield_now();
        }
        tiny(call)
    });
    assert!(keeper.unload() > 0);
    let call = || {
        let told = AtomicUsize::new(0);
        let watch = Call::new().on_progress(|progress| {
            assert_eq!(progress.stage, Stage::Load);
            if told.fetch_add(1, Ordering::SeqCst) == 0 {
                WAITING.fetch_add(1, Ordering::SeqCst);
            }
            ControlFlow::Continue(())
        });
        let _hold = keeper.hold();
        keeper.ready(&watch).unwrap();
        assert!(told.load(Ordering::SeqCst) > 0);
    };
    std::thread::scope(|scope| {
        for _ in 0..=OTHERS {
            scope.spawn(call);
        }
    });
    assert_eq!(LOADS.load(Ordering::SeqCst), 1);
    assert!(keeper.held_bytes() > 0);
}

#[test]
fn a_load_that_fails_is_the_next_ones_to_try() {
    let loads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&loads);
    let keeper = keeper(move |call| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => Err(Error::bad_model("the first")),
        1 => panic!("a fault in the second"),
        _ => tiny(call),
    });
    keeper.unload();
    let error = keeper.ready(&Call::new()).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::BadModel, "the first"));
    let fault = crate::error::guarded(|| keeper.ready(&Call::new()));
    assert_eq!(fault.unwrap_err().kind(), ErrorKind::Internal);
    keeper.ready(&Call::new()).unwrap();
    assert_eq!(loads.load(Ordering::SeqCst), 3);
}

#[test]
fn a_batch_on_its_way_keeps_the_networks() {
    let keeper = Arc::new(keeper(tiny));
    let context = Arc::new(keeper.encode_prompts(&[&vec![0; 77]]).unwrap().remove(0));
    let branch = Branch {
        latent: Latent::new([4, 2, 2], vec![0.5; 16]).unwrap(),
        history: None,
        feed: None,
        positive: Arc::clone(&context),
        negative: context,
        guidance: 4.0,
        extra: None,
    };
    let steps = [(481, 0.25, 0.3), (461, 0.3, 0.35)];
    let steps = steps.map(|(timestep, alpha, alpha_next)| Step { timestep, alpha, alpha_next });
    let schedule = Schedule {
        steps: steps.to_vec(),
        prediction_type: PredictionType::Epsilon,
        sampler: Sampler::Ddim,
    };
    let batch = Batch {
        branches: vec![branch],
        schedule: Arc::new(schedule),
        steps: 0..2,
        keep: 1,
        guidance: Arc::default(),
    };
    let mut run = Arc::clone(&keeper).denoise(batch).unwrap();
    assert!(run.advance().unwrap().is_none());
    assert_eq!(keeper.unload(), 0);
    assert!(keeper.held_bytes() > 0);
    assert!(run.advance().unwrap().is_some());
    assert!(keeper.held_bytes() > 0, "it is still there");
    drop(run);
    assert_eq!(keeper.held_bytes(), 0);
    assert_eq!(keeper.samples(), 4, "two steps, guided");
}
