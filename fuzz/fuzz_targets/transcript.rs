//! Pasted text, to its verdict.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = stopcode_transcript::looks_like_text(bytes);
    if let Ok(crashes) = stopcode_transcript::parse(bytes) {
        for crash in crashes.iter().take(4) {
            let verdict = stopcode_analysis::judge(crash);
            assert!(!verdict.hypotheses.is_empty());
        }
    }
});
