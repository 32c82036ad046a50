//! JSON says everything, and the schema says what JSON says.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use common::*;
use serde_json::{Map, Value};
use stopcode_report::{Format, Style, schema};

fn json(report: &stopcode_case::Report) -> Value {
    let text = written(report, Format::Json, Style::default());
    assert!(text.ends_with("}\n") && !text.ends_with("\n\n"));
    serde_json::from_str(&text).unwrap()
}

/// `UPDATE=1 cargo test -p stopcode-report` writes the file anew.
#[test]
fn the_schema_in_the_repository_is_this_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schema/report.schema.json");
    let now = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
    assert!(kept == now, "schema/report.schema.json is not what the types say; write it anew with UPDATE=1");
}

#[test]
fn every_report_fits_the_schema() {
    for report in [full(&plain), unreadable(&plain), series(&plain)] {
        let schema = schema();
        let mut errors = Vec::new();
        check(&json(&report), &schema, &schema, "$", &mut errors);
        assert!(errors.is_empty(), "{errors:#?}");
    }
}

/// The checker below finds faults, or the test above would prove nothing.
#[test]
fn a_report_that_does_not_fit_is_found() {
    let schema = schema();
    let faults: [&dyn Fn(&mut Value); 4] = [
        &|report| drop(report["system"].as_object_mut().unwrap().remove("machine")),
        &|report| report["stop"]["code"] = Value::from(127),
        &|report| report["verdict"]["hypotheses"][0]["likelihood"] = Value::from(0.5),
        &|report| report["modules"] = Value::Null,
    ];
    for fault in faults {
        let mut report = json(&full(&plain));
        fault(&mut report);
        let mut errors = Vec::new();
        check(&report, &schema, &schema, "$", &mut errors);
        assert!(!errors.is_empty());
    }
}

/// What is absent is null: both reports have the same names at every depth that both reach.
#[test]
fn nothing_is_left_out() {
    let full = json(&full(&plain));
    let unreadable = json(&unreadable(&plain));
    assert_eq!(names(&full), names(&unreadable));
    for absent in ["stop", "system", "exception", "verdict"] {
        assert_eq!(unreadable[absent], Value::Null);
    }
    let frames = full["stacks"][0]["frames"].as_array().unwrap();
    assert!(
        frames.iter().all(|frame| names(frame) == names(&frames[0])),
        "a frame outside all modules has all names"
    );
    assert_eq!(frames[8]["symbol"], Value::Null);
    let hypotheses = full["verdict"]["hypotheses"].as_array().unwrap();
    assert_eq!(hypotheses[1]["suspect"], Value::Null);
    assert_eq!(full["system"]["machine"], Value::Null);
    assert_eq!(full["stop"]["arguments"][3]["meaning"], Value::Null);
}

/// The names that programs were promised, with their types.
#[test]
fn the_promised_names_are_there() {
    let report = json(&full(&plain));
    let promised = [
        ("", "schema_version input stop system exception stacks modules unloaded_modules verdict problems"),
        ("/input", "path kind size"),
        ("/stop", "code base_code name arguments"),
        ("/stop/arguments/0", "value meaning"),
        ("/system", "os_version build architecture processors uptime_seconds crash_time"),
        ("/exception", "code name address symbol"),
        ("/stacks/0", "kind thread processor frames"),
        ("/stacks/0/frames/0", "instruction stack_pointer module display symbol offset trust"),
        ("/modules/0", "name base size path link_date version vendor role"),
        ("/unloaded_modules/0", "name base size"),
        ("/verdict", "summary bucket hypotheses next_steps missing"),
        ("/verdict/bucket", "id version text"),
        ("/verdict/hypotheses/0", "class suspect confidence supports contradicts"),
        ("/verdict/hypotheses/0/suspect", "kind module name"),
        ("/verdict/hypotheses/0/supports/0", "text command address weight"),
        ("/verdict/hypotheses/0/contradicts/0", "text command address weight"),
        ("/problems/0", "severity what where hint"),
    ];
    for (pointer, names) in promised {
        let object = report.pointer(pointer).unwrap().as_object().unwrap();
        for name in names.split(' ') {
            assert!(object.contains_key(name), "{pointer} has no {name}");
        }
    }
    assert_eq!(report["schema_version"], 1);
    assert!(report["input"]["size"].is_u64() && report["stop"]["code"] == "0x1000007f");
}

fn names(value: &Value) -> Vec<&String> {
    value.as_object().map(Map::keys).into_iter().flatten().collect()
}

/// The part of JSON Schema that our schema uses, read strictly: an object has its named properties and no others.
fn check(value: &Value, schema: &Value, root: &Value, at: &str, errors: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        return check(value, root.pointer(&reference[1..]).unwrap(), root, at, errors);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let tried: Vec<Vec<String>> = choices
            .iter()
            .map(|choice| {
                let mut errors = Vec::new();
                check(value, choice, root, at, &mut errors);
                errors
            })
            .collect();
        if tried.iter().all(|errors| !errors.is_empty()) {
            errors.extend(tried.into_iter().flatten());
        }
        return;
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let actual = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() && types.contains(&"integer") => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !types.contains(&actual) {
        errors.push(format!("{at}: {actual} where {types:?} is due"));
        return;
    }
    if let Some(items) = value.as_array() {
        for (index, item) in items.iter().enumerate() {
            check(item, &schema["items"], root, &format!("{at}[{index}]"), errors);
        }
    }
    if let Some(object) = value.as_object() {
        let properties = schema["properties"].as_object().unwrap();
        for required in schema["required"].as_array().unwrap().iter().filter_map(Value::as_str) {
            if !object.contains_key(required) {
                errors.push(format!("{at}: no {required}"));
            }
        }
        for (name, inner) in object {
            match properties.get(name) {
                Some(schema) => check(inner, schema, root, &format!("{at}.{name}"), errors),
                None => errors.push(format!("{at}: {name} is not in the schema")),
            }
        }
    }
}
