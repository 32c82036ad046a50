//! kdmp-parser on a dump.

use kdmp_parser::gxa::Gva;
use kdmp_parser::parse::KernelDumpParser;
use kdmp_parser::virt;

fn main() {
    stopcode_dump_harness::measure(
        |path| {
            let dump = KernelDumpParser::new(path).unwrap();
            assert_eq!(dump.headers().bug_check_code, 0xd1);
            dump
        },
        |dump, at| {
            let mut bytes = [0; 8];
            virt::Reader::new(dump).read_exact(Gva::new(at), &mut bytes).ok()?;
            Some(u64::from_le_bytes(bytes))
        },
    );
}
