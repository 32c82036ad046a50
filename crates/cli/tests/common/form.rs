//! The form of the JSON: what the format promises of every report, whatever the input was.

use serde_json::Value;
use stopcode_commands::parse_line;

/// The promised names, by the place of the object that has them; `*` is every item of an array.
pub(crate) const PROMISED: &[(&str, &str)] = &[
    ("", "schema_version input stop system exception stacks modules unloaded_modules verdict problems"),
    ("input", "path kind size"),
    ("stop", "code base_code name arguments"),
    ("stop/arguments/*", "value meaning"),
    ("system", "os_version build architecture processors uptime_seconds crash_time"),
    ("exception", "code name address symbol"),
    ("stacks/*", "kind thread processor frames"),
    ("stacks/*/frames/*", "instruction stack_pointer module display symbol offset trust"),
    ("modules/*", "name base size path link_date version vendor role"),
    ("verdict", "summary bucket hypotheses next_steps missing"),
    ("verdict/bucket", "id version text"),
    ("verdict/hypotheses/*", "class suspect confidence supports contradicts"),
    ("verdict/hypotheses/*/suspect", "kind module name"),
    ("verdict/hypotheses/*/supports/*", "text command address weight"),
    ("verdict/hypotheses/*/contradicts/*", "text command address weight"),
    ("problems/*", "severity what where hint"),
];

/// Strings that are codes or addresses: `0x`, lower case, no padding, no separators.
const HEX: &[&str] = &[
    "stop/code",
    "stop/base_code",
    "stop/arguments/*/value",
    "system/microcode",
    "system/verifier_flags",
    "exception/code",
    "exception/address",
    "stacks/*/thread",
    "stacks/*/frames/*/instruction",
    "stacks/*/frames/*/stack_pointer",
    "modules/*/base",
    "unloaded_modules/*/base",
    "verdict/hypotheses/*/supports/*/address",
    "verdict/hypotheses/*/contradicts/*/address",
];

/// Strings out of a fixed set.
const WORDS: &[(&str, &str)] = &[
    ("system/architecture", "x64 arm64 x86"),
    ("stacks/*/kind", "exception bugcheck processor thread"),
    ("stacks/*/frames/*/trust", "context trap_frame machine_frame unwind pdb_assisted scan_call scan"),
    ("verdict/hypotheses/*/class", CLASSES),
    ("verdict/hypotheses/*/suspect/kind", "driver os hardware firmware device process person"),
    ("problems/*/severity", "note warning error"),
];

const CLASSES: &str = "driver_bug verifier_detected_driver_bug pool_corruption_by_driver \
    antivirus_or_filter_driver kernel_stack_overflow memory_hardware processor_hardware storage_hardware \
    overheating_or_power firmware_bios gpu_driver_or_hardware usb_device os_bug filesystem_corruption \
    misconfiguration deadlock_or_hang intentional_or_test tampering_or_research_tool unknown";

/// Numbers, where they are not null.
const NUMBERS: &[&str] = &[
    "input/size",
    "system/build",
    "system/processors",
    "system/uptime_seconds",
    "stacks/*/processor",
    "stacks/*/frames/*/offset",
    "modules/*/size",
    "unloaded_modules/*/size",
    "verdict/bucket/version",
];

/// Lower-case image file names.
const IMAGES: &[&str] = &["stacks/*/frames/*/module", "verdict/hypotheses/*/suspect/module"];
const TIMES: &[&str] = &["system/crash_time", "modules/*/link_date"];

/// All values at a place (names, and `*` for every item of an array), nulls left out.
pub(crate) fn each<'v>(value: &'v Value, place: &str) -> Vec<&'v Value> {
    let mut found = vec![value];
    for step in place.split('/').filter(|step| !step.is_empty()) {
        found = match step {
            "*" => found.into_iter().filter_map(Value::as_array).flatten().collect(),
            name => found.into_iter().filter_map(|value| value.get(name)).collect(),
        };
    }
    found.retain(|value| !value.is_null());
    found
}

/// What the report on one input breaks of the format's rules; empty if nothing.
pub(crate) fn faults_of_dump(dump: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let schema = stopcode_report::schema();
    fits(dump, &schema["$defs"]["DumpReport"], &schema, "dump", &mut faults);
    for (place, names) in PROMISED {
        for object in each(dump, place) {
            let absent = names.split(' ').filter(|name| object.get(name).is_none());
            faults.extend(absent.map(|name| format!("{place}: {name} is left out")));
        }
    }
    let mut demand = |places: &[&str], what: &str, holds: &dyn Fn(&Value) -> bool| {
        for place in places {
            let wrong = each(dump, place).into_iter().filter(|value| !holds(value));
            faults.extend(wrong.map(|value| format!("{place}: {value} is not {what}")));
        }
    };
    demand(HEX, "unpadded lower-case hex", &|value| value.as_str().is_some_and(is_hex));
    demand(NUMBERS, "a number", &Value::is_number);
    demand(TIMES, "RFC 3339 in UTC", &|value| value.as_str().is_some_and(is_time));
    demand(IMAGES, "a lower-case image name", &|value| {
        value.as_str().is_some_and(|name| {
            !name.contains(|c: char| c.is_ascii_uppercase()) && !name.contains(['\\', '/'])
        })
    });
    for (place, words) in WORDS {
        demand(&[place], words, &|value| {
            value.as_str().is_some_and(|word| words.split_whitespace().any(|w| w == word))
        });
    }
    if dump["stop"].is_object() && dump["stop"]["arguments"].as_array().unwrap().len() != 4 {
        faults.push("a stop code has four arguments".to_owned());
    }
    match &dump["verdict"] {
        Value::Null if each(dump, "problems/*/hint").is_empty() => {
            faults.push("no verdict, and no problem with a hint".to_owned());
        }
        Value::Null => {}
        verdict => faults_of_hypotheses(&verdict["hypotheses"], &mut faults),
    }
    faults
}

/// What the report on several inputs breaks of the format's rules.
pub(crate) fn faults_of_series(series: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let schema = stopcode_report::schema();
    fits(series, &schema["$defs"]["SeriesReport"], &schema, "series", &mut faults);
    let mut judged = Vec::new();
    for dump in each(series, "dumps/*") {
        let path = &dump["input"]["path"];
        faults.extend(faults_of_dump(dump).into_iter().map(|fault| format!("{path}: {fault}")));
        if dump["verdict"].is_object() {
            judged.push(path.as_str().unwrap());
        }
    }
    for case in each(series, "cases/*") {
        faults_of_hypotheses(&case["hypotheses"], &mut faults);
    }
    let mut members: Vec<&str> =
        each(series, "cases/*/members/*").into_iter().filter_map(Value::as_str).collect();
    members.sort_unstable();
    judged.sort_unstable();
    if members != judged {
        faults.push(format!("each judged input belongs to one case: {judged:?}, {members:?}"));
    }
    faults
}

fn faults_of_hypotheses(hypotheses: &Value, faults: &mut Vec<String>) {
    let confidences: Vec<f64> =
        each(hypotheses, "*/confidence").into_iter().filter_map(Value::as_f64).collect();
    if confidences.is_empty() {
        faults.push("no hypothesis".to_owned());
    }
    if !confidences.is_sorted_by(|a, b| a >= b) || confidences.iter().any(|c| !(0.0..=1.0).contains(c)) {
        faults.push(format!("confidences {confidences:?}"));
    }
    // Figures are rounded to what is shown: their sum may be off by as much.
    if confidences.iter().sum::<f64>() > 1.0 + 1e-9 {
        faults.push(format!("confidences {confidences:?} sum to more than 1"));
    }
    for side in ["*/supports/*", "*/contradicts/*"] {
        for evidence in each(hypotheses, side) {
            if !evidence["weight"].as_f64().is_some_and(|weight| weight.is_finite() && weight > 0.0) {
                faults.push(format!("the weight of {evidence}"));
            }
            if let Some(command) = evidence["command"].as_str()
                && !parse_line(command).is_ok_and(|parts| !parts.is_empty())
            {
                faults.push(format!("`{command}` is no command"));
            }
        }
    }
}

fn is_hex(text: &str) -> bool {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    let lower = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    lower && !digits.is_empty() && (digits == "0" || !digits.starts_with('0'))
}

fn is_time(text: &str) -> bool {
    let form: String = text.chars().map(|c| if c.is_ascii_digit() { 'd' } else { c }).collect();
    let Some(rest) = form.strip_prefix("dddd-dd-ddTdd:dd:dd") else { return false };
    let fraction = rest.trim_start_matches('.').trim_start_matches('d');
    fraction == "Z" && (rest == "Z" || rest.starts_with(".d"))
}

/// The part of JSON Schema that ours uses, read strictly: an object has its named properties and no others.
fn fits(value: &Value, schema: &Value, root: &Value, at: &str, faults: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        return fits(value, root.pointer(&reference[1..]).unwrap(), root, at, faults);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let fit = |choice: &Value| {
            let mut faults = Vec::new();
            fits(value, choice, root, at, &mut faults);
            faults
        };
        let tried: Vec<Vec<String>> = choices.iter().map(fit).collect();
        if tried.iter().all(|faults| !faults.is_empty()) {
            faults.extend(tried.into_iter().flatten());
        }
        return;
    }
    let of_type = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{at}: the schema has a type {other}"),
    };
    let typed = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).any(of_type),
        one => of_type(one.as_str().unwrap_or_else(|| panic!("{at}: the schema has no type"))),
    };
    if !typed {
        faults.push(format!("{at}: {value} is not of type {}", schema["type"]));
    }
    for item in value.as_array().into_iter().flatten() {
        fits(item, &schema["items"], root, &format!("{at}/*"), faults);
    }
    if let Some(object) = value.as_object() {
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        faults.extend(
            required.filter(|name| !object.contains_key(*name)).map(|name| format!("{at}: no {name}")),
        );
        for (name, inner) in object {
            match schema["properties"].get(name) {
                Some(schema) => fits(inner, schema, root, &format!("{at}/{name}"), faults),
                None => faults.push(format!("{at}: {name} is not in the schema")),
            }
        }
    }
}
