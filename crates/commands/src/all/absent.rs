//! `!chkimg`: what needs more than most dumps hold.

use crate::answer::Stop;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::symbols::modules;

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
