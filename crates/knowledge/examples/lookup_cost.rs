//! Measures what one look-up of each kind costs: `cargo run --release -p stopcode-knowledge --example lookup_cost`.
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::hint::black_box;
use std::time::Instant;

use stopcode_knowledge::{bug_check, driver, function, is_known, kernel_build, ntstatus};

fn main() {
    let start = Instant::now();
    black_box(bug_check(black_box(0x7e)));
    println!("{:>9.1} µs  the very first look-up", start.elapsed().as_secs_f64() * 1e6);

    measure("bug check 0x7E", || bug_check(black_box(0x7e)).is_some());
    measure("bug check 0x50, with an edit", || bug_check(black_box(0x50)).is_some());
    measure("bug check 0xC4 and its four arguments", || {
        bug_check(black_box(0xc4)).is_some_and(|bug_check| {
            black_box(bug_check.arguments(&[0x20002, 0xffff, 0, 0]));
            true
        })
    });
    measure("whether 0x1000007E is known", || is_known(black_box(0x1000_007e)));
    measure("NTSTATUS 0xC0000005", || ntstatus(black_box(0xc000_0005)).is_some());
    measure("driver, by name", || driver(black_box("nvlddmkm.sys")).is_some());
    measure("driver, by pattern", || driver(black_box("Netwtw10.sys")).is_some());
    measure("driver, unknown", || driver(black_box("nonesuch.sys")).is_none());
    measure("function", || function(black_box("nt"), black_box("KeBugCheckEx")).is_some());
    measure("kernel build", || kernel_build("x64", black_box(0x0d83_33e6), 0x0104_6000).is_some());
}

fn measure(what: &str, look_up: impl Fn() -> bool) {
    const ROUNDS: u32 = 2000;
    let start = Instant::now();
    let found = (0..ROUNDS).filter(|_| look_up()).count();
    let cost = start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS);
    println!("{cost:>9.1} µs  {what}{}", if found == 0 { " (NOT FOUND)" } else { "" });
}
