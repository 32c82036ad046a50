//! A line of commands.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &str| {
    let _ = stopcode_commands::parse_line(line);
});
