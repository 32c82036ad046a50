//! Every command, one file each, by what it is about.

mod address;
mod blackbox;
mod bugcheck;
mod cpuinfo;
mod dpcs;
mod echo;
mod error;
mod errrec;
mod evaluate;
mod facts;
mod formats;
mod help;
mod idt;
mod ipi;
mod irp;
mod irql;
mod k;
mod lm;
mod mca;
mod n;
mod pcr;
mod planned;
mod prcb;
mod process;
mod processor;
mod pte;
mod q;
mod r;
mod running;
mod shared;
mod stackusage;
mod sysinfo;
mod thread;
mod tss;
mod verifier;
mod vtop;
mod whea;

use crate::command::Command;

/// Commands that belong together, under a heading of the documentation.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) commands: &'static [&'static Command],
}

/// All of them.
pub(crate) const ALL: &[Group] = &[
    Group { name: "The crash", commands: &[&bugcheck::COMMAND] },
    Group { name: "Context and stack", commands: &[&processor::COMMAND, &k::COMMAND, &r::COMMAND] },
    Group { name: "Modules and symbols", commands: &[&lm::COMMAND] },
    Group {
        name: "Processors",
        commands: &[
            &cpuinfo::COMMAND,
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
        commands: &[&irp::COMMAND, &process::COMMAND, &stackusage::COMMAND, &thread::COMMAND],
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
            &error::COMMAND,
            &mca::COMMAND,
            &sysinfo::COMMAND,
            &verifier::COMMAND,
            &whea::COMMAND,
        ],
    },
    Group { name: "Values", commands: &[&evaluate::COMMAND, &formats::COMMAND, &n::COMMAND] },
    Group { name: "The session", commands: &[&help::COMMAND, &echo::COMMAND, &q::COMMAND] },
    Group { name: "Not built yet", commands: planned::COMMANDS },
];
