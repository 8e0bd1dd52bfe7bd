//! Either layout written from the other: not a bit is lost.

mod common;

use common::single::{File, archive, like, load, tensors};
use common::{golden, same, short, tiny};
use latentblend::{
    Call, Error, ErrorKind, Frame, LoadOptions, Model, ModelLayout, PredictionType, Session,
    Spacing, convert,
};
use std::ops::ControlFlow;
use std::path::Path;

fn frame(model: &Model) -> Frame {
    let (keyframes, options) = short();
    Session::new(model, &keyframes, &options).unwrap().render(0.4, &Call::new()).unwrap()
}

fn write(from: &Path, to: &Path, layout: ModelLayout) -> Result<(), Error> {
    convert(from, to, layout, &LoadOptions::default(), &Call::new())
}

#[test]
fn folder_to_single_file_and_back() {
    for name in ["base", "v"] {
        let place = tempfile::tempdir().unwrap();
        let from = golden::path("tiny").join(name);
        let (single, folder) = (place.path().join("one.safetensors"), place.path().join("folder"));
        write(&from, &single, ModelLayout::SingleFile).unwrap();
        write(&single, &folder, ModelLayout::Folder).unwrap();
        let original = tiny(name);
        let wanted = frame(&original);
        for path in [&single, &folder] {
            let model = common::load(path).unwrap();
            assert_eq!(model.info().fingerprint, original.info().fingerprint);
            assert_eq!(model.info().prediction_type(), original.info().prediction_type());
            assert_eq!(model.info().native_size, original.info().native_size);
            assert!(same(&frame(&model), &wanted), "{}", path.display());
        }
        // Tensor by tensor, under the same names, shapes and types.
        for part in
            ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"]
        {
            let (a, b) = (
                tensors(&from.join(part).with_extension("safetensors")),
                tensors(&folder.join(part).with_extension("safetensors")),
            );
            assert!(a.keys().eq(b.keys()), "{part}");
            for (name, stored) in a {
                let other = &b[&name];
                assert_eq!((stored.dtype, &stored.shape), (other.dtype, &other.shape), "{name}");
                assert_eq!(stored.bytes, other.bytes, "{name}");
            }
        }
        // Again to a single file, which is the same byte for byte.
        let again = place.path().join("two.safetensors");
        write(&folder, &again, ModelLayout::SingleFile).unwrap();
        assert_eq!(std::fs::read(&single).unwrap(), std::fs::read(&again).unwrap());
        let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().collect();
        assert_eq!(left.len(), 3);
    }
}

#[test]
fn an_inpainting_model_stays_one() {
    let place = tempfile::tempdir().unwrap();
    let single = place.path().join("one.safetensors");
    write(&golden::path("tiny/inpainting"), &single, ModelLayout::SingleFile).unwrap();
    let model = common::load(&single).unwrap();
    assert!(model.info().inpainting);
    assert_eq!(model.info().fingerprint, tiny("inpainting").info().fingerprint);
}

#[test]
fn what_the_caller_knows_better_is_written_down() {
    let place = tempfile::tempdir().unwrap();
    for (name, layout) in
        [("one.safetensors", ModelLayout::SingleFile), ("folder", ModelLayout::Folder)]
    {
        let path = place.path().join(name);
        let options = LoadOptions {
            prediction_type: Some(PredictionType::Velocity),
            spacing: Some(Spacing::Trailing),
            ..LoadOptions::default()
        };
        convert(golden::path("tiny/base"), &path, layout, &options, &Call::new()).unwrap();
        let diffusion = common::load(&path).unwrap().info().diffusion.clone();
        assert_eq!(diffusion.prediction_type, PredictionType::Velocity);
        assert_eq!(diffusion.spacing, Spacing::Trailing);
    }
}

#[test]
fn a_checkpoint_becomes_a_folder() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("folder");
    let options = like("base");
    convert(archive("tiny.ckpt"), &folder, ModelLayout::Folder, &options, &Call::new()).unwrap();
    let model = common::load(&folder).unwrap();
    assert!(same(&frame(&model), &frame(&tiny("base"))));
    // Old folders name and shape the VAE's attention otherwise; both come out under today's names.
    let single = place.path().join("one.safetensors");
    write(&folder, &single, ModelLayout::SingleFile).unwrap();
    assert_eq!(
        tensors(&single)["first_stage_model.encoder.mid.attn_1.q.weight"].shape,
        [16, 16, 1, 1]
    );
    assert!(load(&single, &LoadOptions::default()).is_ok());
}

#[test]
fn what_is_there_is_never_written_over() {
    let file = File::new("one.safetensors", "mine");
    for layout in [ModelLayout::SingleFile, ModelLayout::Folder] {
        let error = write(&golden::path("tiny/base"), &file.path(), layout).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains("is there already"), "{error}");
    }
    assert_eq!(std::fs::read(file.path()).unwrap(), b"mine");
    let other = file.path().with_file_name("one.ckpt");
    let error = write(&golden::path("tiny/base"), &other, ModelLayout::SingleFile).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let nowhere = file.path().with_file_name("no").join("one.safetensors");
    let error = write(&golden::path("tiny/base"), &nowhere, ModelLayout::SingleFile).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_conversion_that_is_cancelled_leaves_nothing() {
    for (layout, name) in
        [(ModelLayout::SingleFile, "one.safetensors"), (ModelLayout::Folder, "folder")]
    {
        for stop in [0, 3, 200, 400] {
            let place = tempfile::tempdir().unwrap();
            let count = std::sync::atomic::AtomicUsize::new(0);
            let call = Call::new().on_progress(|_| {
                match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == stop {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            let from = golden::path("tiny/base");
            let options = LoadOptions::default();
            let error =
                convert(from, place.path().join(name), layout, &options, &call).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Cancelled);
            assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
        }
    }
}
