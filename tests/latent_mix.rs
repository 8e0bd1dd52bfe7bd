//! Latents mixed by bands: another way between keyframes, which themselves stay what they are to the bit.

mod common;

use common::{same, short, tiny};
use latentblend::{
    BlendOptions, Branching, Call, ErrorKind, Frame, Keyframe, Latent, LatentMix, Look, Model,
    Session, cpu_normals,
};

fn options(size: [usize; 2], latent_mix: LatentMix) -> BlendOptions {
    let branching = Branching { injections: vec![0, 4, 7], branches: vec![2, 3, 5] };
    BlendOptions {
        steps: Some(9),
        branching: Some(branching),
        size: Some(size),
        latent_mix: Some(latent_mix),
        ..BlendOptions::default()
    }
}

fn render(session: &Session, t: f64) -> Frame {
    session.render(t, &Call::new()).unwrap()
}

fn session(model: &Model, size: [usize; 2], latent_mix: LatentMix) -> Session {
    let [first, second] = short().0;
    let keyframes = [first, second, Keyframe::new("dunes", 7)];
    Session::new(model, &keyframes, &options(size, latent_mix)).unwrap()
}

#[test]
fn keyframes_are_their_own_pictures_and_frames_between_are_others() {
    for name in ["base", "v"] {
        let model = tiny(name);
        // Sizes of which not all bands are there, too.
        for size in [[64, 48], [8, 8], [24, 8], [40, 72]] {
            let [arc, bands] = LatentMix::ALL.map(|mix| session(&model, size, mix));
            for t in [0.0, 1.0, 2.0] {
                assert!(same(&render(&arc, t), &render(&bands, t)), "{name} {size:?} at {t}");
                let alone = [bands.keyframes()[t as usize].clone()];
                let alone = Session::new(&model, &alone, &options(size, LatentMix::Arc)).unwrap();
                assert!(same(&render(&alone, 0.0), &render(&bands, t)), "{name} {size:?} at {t}");
            }
            // With one pixel to a channel there is nothing but the mean.
            let [p, q] = [&arc, &bands].map(|session| render(session, 0.4));
            assert!(!same(&p, &q), "{name} {size:?}: mixed alike");
        }
    }
}

#[test]
fn bands_are_the_default_and_the_arc_is_what_the_older_looks_have() {
    let model = tiny("base");
    let latents = |look: Look, latent_mix: Option<LatentMix>| {
        let options = BlendOptions { look, latent_mix, ..short().1 };
        let session = Session::new(&model, &short().0, &options).unwrap();
        session.latents(&[0.4], &Call::new()).unwrap()
    };
    let [arc, bands] = LatentMix::ALL.map(|mix| latents(Look::Current, Some(mix)));
    assert_ne!(arc, bands);
    assert_eq!(latents(Look::Current, None), bands);
    for (look, year) in [(Look::Compat2022, 2022), (Look::Compat2023, 2023)] {
        let bands = BlendOptions { look, latent_mix: Some(LatentMix::Bands), ..short().1 };
        let error = Session::new(&model, &short().0, &bands);
        let error = error.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(error.message(), format!("latent mix bands: compat {year} has arc"));
        assert_eq!(latents(look, Some(LatentMix::Arc)), latents(look, None));
    }
}

#[test]
fn both_ways_give_back_their_ends_and_refuse_other_shapes() {
    let latent = |seed: u64, shape: [usize; 3]| {
        Latent::new(shape, cpu_normals(seed, shape.iter().product())).unwrap()
    };
    let (p, q) = (latent(1, [4, 6, 5]), latent(2, [4, 6, 5]));
    for mix in LatentMix::ALL {
        assert_eq!(mix.between(&p, &q, 0.0).unwrap(), p);
        assert_eq!(mix.between(&p, &q, 1.0).unwrap(), q);
        assert_eq!(mix.between(&p, &q, 0.3), mix.between(&p, &q, 0.3));
        let error = mix.between(&p, &latent(2, [4, 5, 6]), 0.5).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", mix.name());
    }
}
