//! `!blackboxbsd`, `!blackboxntfs`, `!blackboxpnp`, `!blackboxwinlogon`

use super::facts::needed;
use crate::command::Command;
use serde_json::json;
use stopcode_kernel::BootStatus;

const fn command(name: &'static str, what: &'static str, details: &'static str, run: Run) -> Command {
    Command { name, aliases: &[], letters: "", parameters: &[], what, details, examples: &[], run }
}

type Run = fn(
    &mut crate::session::Session,
    &crate::arguments::Arguments<'_>,
    &mut crate::output::Output,
) -> crate::answer::Outcome;

pub(super) const BOOT_STATUS: Command = command(
    "!blackboxbsd",
    "boot status data: how the machine booted and ran",
    "The times and numbers that fit on real dumps; the power button's history behind them is not decoded.",
    |session, _, output| {
        let status = needed(session.machine().boot_status())?;
        for (name, value) in rows(&status) {
            output.line(format!("{name}: {value}"))?;
        }
        Ok(json!({
            "size": status.size, "product_type": status.product_type, "last_boot_succeeded": status.last_boot_succeeded,
            "last_boot_shutdown": status.last_boot_shutdown, "system_running": status.system_running,
            "connected_standby": status.connected_standby, "user_shutdown": status.user_shutdown,
            "system_shutdown": status.system_shutdown, "sleep_in_progress": status.sleep_in_progress,
            "last_reference_time": status.last_reference_time.to_string(), "boot_id": status.boot_id,
            "last_shutdown_boot": status.last_shutdown_boot, "last_abnormal_boot": status.last_abnormal_boot,
        }))
    },
);

fn rows(status: &BootStatus) -> Vec<(&'static str, String)> {
    let flag = |flag: bool| if flag { "TRUE" } else { "FALSE" }.to_owned();
    vec![
        ("Version", format!("{:#X}", status.size)),
        ("Product type", status.product_type.to_string()),
        ("Auto advanced boot", flag(status.auto_advanced_boot)),
        ("Advanced boot menu timeout", status.menu_timeout.to_string()),
        ("Last boot succeeded", flag(status.last_boot_succeeded)),
        ("Last boot shutdown", flag(status.last_boot_shutdown)),
        ("Power button timestamp", format!("{:#x}", status.power_button.0)),
        ("System running", flag(status.system_running)),
        ("Connected standby in progress", flag(status.connected_standby)),
        ("User shutdown in progress", flag(status.user_shutdown)),
        ("System shutdown in progress", flag(status.system_shutdown)),
        ("Sleep in progress", status.sleep_in_progress.to_string()),
        (
            "Last reference time",
            format!("{:#x}  {}", status.last_reference_time.0, status.last_reference_time),
        ),
        ("Last update boot id", status.last_update_boot.to_string()),
        ("Boot attempt count", status.boot_attempts.to_string()),
        ("Last boot checkpoint", flag(status.last_boot_checkpoint)),
        ("Last boot id", status.boot_id.to_string()),
        ("Last successful shutdown boot id", status.last_shutdown_boot.to_string()),
        ("Last reported abnormal shutdown boot id", status.last_abnormal_boot.to_string()),
    ]
}

pub(super) const NTFS: Command = command(
    "!blackboxntfs",
    "whether NTFS noted slow or stuck I/O",
    "Records of slow I/O are not decoded: whether there is any is told.",
    |session, _, output| {
        let black_box = needed(session.machine().ntfs_black_box())?;
        output.line("NTFS Blackbox Data")?;
        output.line(format!("Since {}", black_box.since))?;
        let what = if black_box.has_records {
            "It holds records, which are not decoded."
        } else {
            "It holds no record."
        };
        output.line(what)?;
        Ok(json!({"since": black_box.since.to_string(), "has_records": black_box.has_records}))
    },
);

pub(super) const PNP: Command =
    command("!blackboxpnp", "the device that plug and play was working on", "", |session, _, output| {
        let activity = needed(session.machine().pnp_black_box())?;
        output.line(format!("In progress since {}", activity.since))?;
        output.line(format!("DeviceId: {}", activity.device))?;
        Ok(json!({"since": activity.since.to_string(), "device": activity.device}))
    });

pub(super) const WINLOGON: Command =
    command("!blackboxwinlogon", "how far the logon had come", "", |session, _, output| {
        let step = needed(session.machine().winlogon_black_box())?;
        output.line(format!("Last logon step: {step}"))?;
        Ok(json!({"step": step}))
    });
