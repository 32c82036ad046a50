//! Every command, one file each or one a family, by what it is about.

mod absent;
mod analyze;
mod bugcheck;
mod code;
mod context;
mod d;
mod da;
mod dps;
mod dt;
mod dumpdebug;
mod echo;
mod enumtag;
mod error;
mod evaluate;
mod exr;
mod formats;
mod frame;
mod help;
mod k;
mod lm;
mod lmi;
mod ln;
mod memory;
mod n;
mod planned;
mod process;
mod processor;
mod q;
mod r;
mod s;
mod shared;
mod sympath;
mod system;
mod thread;
mod u;
mod ub;
mod uf;
mod x;

use crate::command::Command;

/// Commands that belong together, under a heading of the documentation.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) commands: &'static [&'static Command],
}

/// All of them.
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
    Group { name: "Code", commands: &[&u::COMMAND, &ub::COMMAND, &uf::COMMAND, &absent::CHKIMG] },
    Group {
        name: "Memory",
        commands: &[
            &d::BYTES,
            &d::WORDS,
            &d::DOUBLES,
            &d::QUADS,
            &d::CHARACTERS,
            &d::BITS,
            &da::DA,
            &da::DU,
            &dps::DPS,
            &dps::DDS,
            &dps::DPA,
            &dps::DPU,
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
            &sympath::SYMPATH,
            &sympath::RELOAD,
        ],
    },
    Group { name: "The dump", commands: &[&dumpdebug::COMMAND, &enumtag::COMMAND] },
    Group { name: "I/O", commands: &[&absent::IRP] },
    Group {
        name: "Values",
        commands: &[&evaluate::COMMAND, &formats::COMMAND, &n::COMMAND, &error::COMMAND],
    },
    Group { name: "The session", commands: &[&help::COMMAND, &echo::COMMAND, &q::COMMAND] },
    Group { name: "Not built yet", commands: planned::COMMANDS },
];
