//! Every command, one file each or one a family, by what it is about.

mod address;
mod analyze;
mod blackbox;
mod bugcheck;
mod chkimg;
mod code;
mod context;
mod cpuinfo;
mod d;
mod da;
mod devobj;
mod dpcs;
mod dps;
mod dt;
mod dumpdebug;
mod echo;
mod enumtag;
mod eprocess;
mod error;
mod errrec;
mod ethread;
mod evaluate;
mod exr;
mod facts;
mod formats;
mod frame;
mod idt;
mod ipi;
mod irp;
mod irql;
mod k;
mod lm;
mod lmi;
mod ln;
mod mca;
mod memory;
mod n;
mod pcr;
mod prcb;
mod process;
mod processor;
mod pte;
mod q;
mod r;
mod running;
mod s;
mod shared;
mod stackusage;
mod sympath;
mod sysinfo;
mod system;
mod thread;
mod tss;
mod u;
mod ub;
mod uf;
mod verifier;
mod vtop;
mod whea;
mod x;

use crate::command::Command;

pub(crate) use echo::COMMAND as ECHO;
pub(crate) use q::COMMAND as QUIT;

/// Commands that belong together, under a heading of the documentation.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) commands: &'static [&'static Command],
}

/// All that work on the machine.
pub(crate) const ALL: &[Group] = &[
    Group {
        name: "The crash",
        commands: &[
            &bugcheck::COMMAND,
            &analyze::ANALYZE,
            &analyze::WHY,
            &exr::COMMAND,
            &system::TIME,
            &system::VERTARGET,
            &system::VERSION,
        ],
    },
    Group {
        name: "Context and stack",
        commands: &[
            &processor::COMMAND,
            &thread::COMMAND,
            &process::COMMAND,
            &context::ECXR,
            &context::CXR,
            &context::TRAP,
            &r::COMMAND,
            &k::COMMAND,
            &frame::COMMAND,
        ],
    },
    Group { name: "Code", commands: &[&u::COMMAND, &ub::COMMAND, &uf::COMMAND, &chkimg::COMMAND] },
    Group {
        name: "Memory",
        commands: &[
            &d::BYTES,
            &d::WORDS,
            &d::DOUBLES,
            &d::QUADS,
            &d::POINTERS,
            &d::CHARACTERS,
            &d::BITS,
            &da::DA,
            &da::DU,
            &dps::DPS,
            &dps::DDS,
            &dps::DPA,
            &dps::DPU,
            &dps::DPP,
            &s::COMMAND,
        ],
    },
    Group {
        name: "Modules and symbols",
        commands: &[
            &lm::COMMAND,
            &lmi::COMMAND,
            &ln::COMMAND,
            &x::COMMAND,
            &dt::COMMAND,
            &sympath::LINES,
            &sympath::SYMPATH,
            &sympath::SYMPATH_AND,
            &sympath::RELOAD,
        ],
    },
    Group { name: "The dump", commands: &[&dumpdebug::COMMAND, &enumtag::COMMAND] },
    Group {
        name: "Processors",
        commands: &[
            &cpuinfo::COMMAND,
            &devobj::COMMAND,
            &dpcs::COMMAND,
            &idt::COMMAND,
            &ipi::COMMAND,
            &irql::COMMAND,
            &pcr::COMMAND,
            &prcb::COMMAND,
            &running::COMMAND,
            &tss::COMMAND,
        ],
    },
    Group {
        name: "Threads, processes, I/O",
        commands: &[&irp::COMMAND, &eprocess::COMMAND, &stackusage::COMMAND, &ethread::COMMAND],
    },
    Group { name: "Address space", commands: &[&address::COMMAND, &pte::COMMAND, &vtop::COMMAND] },
    Group {
        name: "Hardware and checks",
        commands: &[
            &blackbox::BOOT_STATUS,
            &blackbox::NTFS,
            &blackbox::PNP,
            &blackbox::WINLOGON,
            &errrec::COMMAND,
            &mca::COMMAND,
            &sysinfo::COMMAND,
            &verifier::COMMAND,
            &whea::COMMAND,
        ],
    },
    Group {
        name: "Values",
        commands: &[&evaluate::COMMAND, &formats::COMMAND, &n::COMMAND, &error::COMMAND],
    },
];
