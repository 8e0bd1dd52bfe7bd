//! Prompts become the ids that transformers gives.

mod common;

use common::golden::json;
use common::tiny;
use latentblend::PromptRules;

#[test]
fn ids_equal_those_of_transformers() {
    let model = tiny("base");
    let recorded = json("tokenizer");
    let cases = recorded.as_array().unwrap();
    for case in cases {
        let prompt = case["prompt"].as_str().unwrap();
        let wanted: Vec<u32> =
            case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let (ids, dropped) = model.tokenize(prompt).unwrap();
        assert_eq!(ids, wanted, "{prompt:?}");
        assert_eq!(dropped.is_some(), case["tokens"].as_u64().unwrap() > 77, "{prompt:?}");
    }
    assert!(cases.len() >= 40, "only {} prompts were recorded", cases.len());
}

#[test]
fn ids_of_compat_2022_equal_those_of_open_clip() {
    let model = tiny("base");
    let mut seen = 0;
    for case in json("tokenizer").as_array().unwrap() {
        let prompt = case["prompt"].as_str().unwrap();
        // Where the repairs of ftfy decide, only the straight quotes are taken over; and nobody writes
        // open_clip's own name for the end of a text into a prompt.
        let repaired = !case["open_clip_unrepaired"].is_null() && !prompt.contains('’');
        if repaired || prompt.contains("<end_of_text>") {
            continue;
        }
        let wanted = if case["open_clip"].is_null() { &case["ids"] } else { &case["open_clip"] };
        let wanted: Vec<u32> =
            wanted.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let (ids, _) = model.tokenize_as(prompt, PromptRules::OpenClip).unwrap();
        assert_eq!(ids, wanted, "{prompt:?}");
        seen += 1;
    }
    assert!(seen >= 40, "only {seen} prompts were compared");
}

#[test]
fn what_finds_no_room_is_told() {
    let model = tiny("base");
    let long = "7 ".repeat(75) + "and a lighthouse";
    let (ids, dropped) = model.tokenize(&long).unwrap();
    assert_eq!(ids.len(), 77);
    assert_eq!(dropped.as_deref(), Some("and a lighthouse"));
    assert_eq!(model.tokenize(&"7 ".repeat(75)).unwrap().1, None);
}
