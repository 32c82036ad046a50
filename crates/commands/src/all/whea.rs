//! `!whea`

use super::errrec;
use super::facts::needed;
use crate::command::Command;

pub(super) const COMMAND: Command = Command {
    name: "!whea",
    aliases: &[],
    letters: "",
    parameters: &[],
    what: "the hardware error that stopped the machine",
    details: "The record that bug check 124 passes. The table of error sources, with the records that were kept of each, lies \
              where no debugger data point to, and is not read.",
    examples: &[("!whea", "the record, section by section")],
    run: |session, _, output| {
        let record = needed(session.machine().error_record())?;
        errrec::show(&record, output)
    },
};
