//! `!irp`, `!chkimg`: what needs more than most dumps hold.

use crate::answer::Stop;
use crate::command::{Command, Kind, Parameter};
use crate::symbols::modules;

pub(super) const IRP: Command = Command {
    name: "!irp",
    aliases: &[],
    letters: "",
    parameters: &[
        Parameter::required("ADDRESS", Kind::Expression),
        Parameter::optional("DETAIL", Kind::Expression),
    ],
    what: "an I/O request packet",
    details: "Whether the dump holds it; its fields are not read yet.",
    examples: &[],
    run: |session, arguments, _| {
        let at = arguments.address("ADDRESS").unwrap_or_default();
        let machine = session.machine();
        Err(match machine.memory().read_u16(at) {
            Err(miss) => Stop::Unknown(format!(
                "the IRP at {} is {}; `!pte {:#x}` shows why",
                at.windbg(),
                miss.reason,
                at.0
            )),
            Ok(_) => {
                Stop::Unknown(format!("this version does not read IRPs; `dq {:#x}` shows its bytes", at.0))
            }
        })
    },
};

pub(super) const CHKIMG: Command = Command {
    name: "!chkimg",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("MODULE", Kind::Module), Parameter::optional("OPTIONS", Kind::Rest)],
    what: "code bytes that differ from the image",
    details: "It needs the image itself beside the dump, which this version does not compare yet.",
    examples: &[],
    run: |session, arguments, _| {
        let name = arguments.text("MODULE").unwrap_or("nt");
        let machine = session.machine();
        let module = modules(&machine, name).next();
        let module =
            module.ok_or_else(|| Stop::unknown(format!("no module of this dump is called {name}")))?;
        Err(Stop::Unknown(format!("the image of {} is not at hand to compare with", module.display)))
    },
};
