//! `!devobj`

use super::facts::needed;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::show::address;
use serde_json::json;

pub(super) const COMMAND: Command = Command {
    name: "!devobj",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::required("ADDRESS", Kind::Expression)],
    what: "a device object: whose it is",
    details: "The driver is found through the device's driver object, and has the name it is loaded under; the image is mostly \
              called the same.",
    examples: &[("!devobj ffffe001`2d3a4060", "the driver that made the device")],
    run: |session, arguments, output| {
        let at = arguments.address("ADDRESS").unwrap_or_default();
        let driver = needed(session.machine().device_driver(at))?;
        output.line(format!("Device object ({}) is for:", output.at(at)))?;
        output.line(format!(" {driver}"))?;
        Ok(json!({ "device": address(at), "driver": driver }))
    },
};
