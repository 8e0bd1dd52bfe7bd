//! Prompts become the ids that transformers gives.

mod common;

use common::golden::json;
use common::tiny;

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
fn what_finds_no_room_is_told() {
    let model = tiny("base");
    let long = "7 ".repeat(75) + "and a lighthouse";
    let (ids, dropped) = model.tokenize(&long).unwrap();
    assert_eq!(ids.len(), 77);
    assert_eq!(dropped.as_deref(), Some("and a lighthouse"));
    assert_eq!(model.tokenize(&"7 ".repeat(75)).unwrap().1, None);
}
