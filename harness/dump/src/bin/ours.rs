//! stopcode on a dump.

use stopcode_base::{Memory, VirtAddr};
use stopcode_dump::Dump;

fn main() {
    stopcode_dump_harness::measure(
        |path| {
            let dump = Dump::open(path.as_ref()).unwrap();
            assert_eq!(dump.header().bug_check_code, 0xd1);
            dump
        },
        |dump, at| dump.read_u64(VirtAddr(at)).ok(),
    );
}
