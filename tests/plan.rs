//! The plan's numbers are those of the original's version of 2022.

mod common;

use common::golden::json;
use common::stable_diffusion_2;
use latentblend::{
    Branching, GuidanceDamping, Look, Plan, Preset, Schedule, SchedulePolicy, Spacing, parents,
    spacing,
};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn counts(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
}

fn assert_close(got: &[f64], wanted: &[f64], what: &str) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    for (got, wanted) in got.iter().zip(wanted) {
        assert!((got - wanted).abs() <= 1e-12, "{what}: {got} instead of {wanted}");
    }
}

fn check_plan(name: &str, wanted: &Value) {
    let branching =
        Branching { injections: counts(&wanted["indices"]), branches: counts(&wanted["branches"]) };
    let steps = wanted["steps"].as_u64().unwrap() as usize;
    if let Some((preset, frames)) = name.split_once('.')
        && let Some(preset) = Preset::ALL.into_iter().find(|p| p.name() == preset)
    {
        let leaves = preset.leaves(frames.parse().unwrap());
        assert_eq!(preset.steps(), steps, "{name}");
        assert_eq!(
            Branching::automatic(steps, 0.65, leaves, Look::Compat2022).unwrap(),
            branching,
            "{name}"
        );
    }
    if name.starts_with("auto.") {
        assert_eq!(
            Branching::automatic(steps, 0.65, 45, Look::Compat2022).unwrap(),
            branching,
            "{name}"
        );
    }
    let plan = Plan::new(steps, &branching, wanted["mid_compression"].as_f64().unwrap()).unwrap();
    assert_eq!(plan.branch_steps() as u64, wanted["cost"].as_u64().unwrap(), "{name}");
    let levels = wanted["levels"].as_array().unwrap();
    assert_eq!(plan.levels().len(), levels.len(), "{name}");
    for (index, (level, wanted)) in plan.levels().iter().zip(levels).enumerate() {
        assert_eq!(level.steps.start as u64, wanted["start"].as_u64().unwrap(), "{name}");
        assert_eq!(level.steps.end as u64, wanted["stop"].as_u64().unwrap(), "{name}");
        assert_close(&level.fractions, &numbers(&wanted["fractions"]), name);
        let guidance = level.fractions.iter().map(|&f| GuidanceDamping::Compat2022.at(4.0, 0.5, f));
        assert_close(&guidance.collect::<Vec<_>>(), &numbers(&wanted["guidance"]), name);
        if index == 0 {
            continue;
        }
        let above = &plan.levels()[index - 1].fractions;
        let (left, right) = (counts(&wanted["left"]), counts(&wanted["right"]));
        let (mix, ties) = (numbers(&wanted["mix"]), counts(&wanted["ties"]));
        for (node, &fraction) in level.fractions.iter().enumerate() {
            let got = parents(above, fraction);
            if ties.contains(&node) {
                // A fraction that is a parent's but for its last bit: either neighbour, the same place.
                let place = |l: usize, r: usize, m: f64| above[l] + m * (above[r] - above[l]);
                let wanted = place(left[node], right[node], mix[node]);
                assert!((place(got.left, got.right, got.mix) - wanted).abs() < 1e-12, "{name}");
                continue;
            }
            // At the very ends the original mixes a branch with a share of 0 or 1; here it is taken as
            // it is, from the same place.
            let place = |l: usize, r: usize, m: f64| {
                if m == 1.0 {
                    (r, r)
                } else if m == 0.0 {
                    (l, l)
                } else {
                    (l, r)
                }
            };
            let wanted = place(left[node], right[node], mix[node]);
            assert_eq!(place(got.left, got.right, got.mix), wanted, "{name}, node {node}");
            if wanted.0 != wanted.1 {
                assert!((got.mix - mix[node]).abs() <= 1e-12, "{name}, node {node}");
            }
        }
    }
}

#[test]
fn plans_equal_those_of_2022() {
    let mut cases = 0;
    for file in ["plans_2022", "plans_2022_large"] {
        for (name, wanted) in json(file).as_object().unwrap() {
            check_plan(name, wanted);
            cases += 1;
        }
    }
    // Five presets at three lengths, eight numbers of steps, three made by hand.
    assert!(cases >= 26, "only {cases} plans were recorded");
}

#[test]
fn spacing_and_branching_equal_those_of_2022() {
    let recorded = json("numbers_2022");
    for case in recorded["spacing"].as_array().unwrap() {
        let got = spacing(case["n"].as_u64().unwrap() as usize, case["scaler"].as_f64().unwrap());
        assert_close(&got, &numbers(&case["fractions"]), &case.to_string());
    }
    for case in recorded["autosetup"].as_array().unwrap() {
        let steps = case["steps"].as_u64().unwrap() as usize;
        let (depth, leaves) = (case["depth"].as_f64().unwrap(), case["leaves"].as_u64().unwrap());
        let got = Branching::automatic(steps, depth, leaves as usize, Look::Compat2022).unwrap();
        assert_eq!(got.injections, counts(&case["indices"]), "{case}");
        assert_eq!(got.branches, counts(&case["branches"]), "{case}");
    }
}

#[test]
fn the_schedule_of_2022_is_kept_with_its_lengths() {
    let config = stable_diffusion_2(Spacing::Leading);
    let recorded = json("numbers_2022");
    for (count, wanted) in recorded["ldm"].as_object().unwrap() {
        let count: usize = count.parse().unwrap();
        let steps = Schedule::new(&config, count, SchedulePolicy::Compat2022).unwrap().steps;
        let got: Vec<usize> = steps.iter().map(|s| s.timestep).collect();
        let timesteps = counts(&wanted["timesteps"]);
        assert_eq!(got, timesteps[..timesteps.len().min(count)], "{count}");
        for (step, (alpha, next)) in
            steps.iter().zip(numbers(&wanted["a_t"]).iter().zip(numbers(&wanted["a_prev"])))
        {
            assert!((step.alpha - alpha).abs() < 1e-7 && (step.alpha_next - next).abs() < 1e-7);
        }
    }
    for (count, real) in recorded["ldm_step_count"].as_object().unwrap() {
        let (count, real) = (count.parse::<usize>().unwrap(), real.as_u64().unwrap() as usize);
        match Schedule::new(&config, count, SchedulePolicy::Compat2022) {
            Ok(schedule) => assert_eq!(schedule.steps.len(), real.min(count), "{count}"),
            Err(error) => assert!(error.message().contains("fails"), "{count}: {error}"),
        }
    }
}

#[test]
fn the_last_level_keeps_its_leaves() {
    // 2022's rule drops the last injection of 'low', and 15 of its 22 leaves with it.
    let (steps, leaves) = (Preset::Low.steps(), Preset::Low.leaves(360));
    let kept = Branching::automatic(steps, 0.65, leaves, Look::Current).unwrap();
    assert_eq!((kept.injections, kept.branches), (vec![0, 10], vec![2, 22]));
}

#[test]
fn a_plan_that_cannot_be_is_refused() {
    let plan = |injections: &[usize], branches: &[usize]| {
        let branching = Branching { injections: injections.to_vec(), branches: branches.to_vec() };
        Plan::new(20, &branching, 2.0).map_err(|e| e.message().to_owned())
    };
    assert_eq!(
        plan(&[0, 8], &[2]).unwrap_err(),
        "2 injections and 1 branch counts: wanted as many of one as of the other"
    );
    assert_eq!(
        plan(&[0, 8, 8], &[2, 3, 4]).unwrap_err(),
        "injections at steps 8 and 8: wanted rising steps"
    );
    assert_eq!(plan(&[0, 20], &[2, 3]).unwrap_err(), "an injection at step 20 of 20");
    assert_eq!(
        plan(&[0, 8], &[3, 3]).unwrap_err(),
        "3 branches at step 0: wanted 2, the keyframes"
    );
    assert_eq!(plan(&[0, 8], &[2, 1]).unwrap_err(), "1 branches: wanted 2 to 100000");
    // What 2022 gave up on: branch counts that fall again, and no keyframes in front.
    assert!(plan(&[0, 8, 14], &[2, 5, 3]).is_ok());
    assert_eq!(plan(&[8], &[5]).unwrap().levels().len(), 2);
}

#[test]
fn damping_keeps_what_its_parameter_says() {
    let damping = GuidanceDamping::TowardsOne;
    assert_eq!(damping.at(7.5, 1.0, 0.5), 7.5);
    assert_eq!(damping.at(7.5, 0.0, 0.5), 1.0);
    assert_eq!(damping.at(7.5, 0.3, 0.0), 7.5);
    assert_eq!(damping.at(7.5, 0.3, 1.0), 7.5);
    assert_eq!(GuidanceDamping::Compat2022.at(4.0, 0.5, 0.5), 2.0);
}
