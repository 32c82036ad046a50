//! Black boxes: what Windows noted to have in progress, out of a dump's secondary data.
//!
//! The layouts have no public description: they were found on real dumps. Of the boot status only what was seen to
//! fit is told: in five dumps of one machine on one day the boot numbers count up, and the shutdown that was last
//! reported as abnormal is the boot before.

use crate::reading::bytes::Bytes;
use stopcode_base::{Fact, FileTime};
use stopcode_dump::{Content, Dump, Guid, PnpActivity};

const BOOT_STATUS: Guid = Guid::from_digits(0xf57308df_cc45_4e01_ad76_29a4ebb010ec);
const NTFS: Guid = Guid::from_digits(0x00afe9c4_940d_4213_8016_cd3719b5bc20);

/// The boot status data, as `!blackboxbsd` shows them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BootStatus {
    /// Bytes, which is also the version.
    pub size: u32,
    /// 1 workstation, 2 domain controller, 3 server.
    pub product_type: u32,
    /// The menu of advanced options comes by itself after a boot that failed.
    pub auto_advanced_boot: bool,
    /// Seconds that menu waits.
    pub menu_timeout: u8,
    /// The last boot got to its end.
    pub last_boot_succeeded: bool,
    /// The last run ended with a shutdown.
    pub last_boot_shutdown: bool,
    /// When the power button was last pressed in this transition; zero if it was not.
    pub power_button: FileTime,
    /// The system ran.
    pub system_running: bool,
    /// It was in connected standby.
    pub connected_standby: bool,
    /// A user had asked for a shutdown.
    pub user_shutdown: bool,
    /// The system was shutting down.
    pub system_shutdown: bool,
    /// How far a transition to sleep had come; 0 for none.
    pub sleep_in_progress: u8,
    /// A time that Windows keeps noting while it runs: the crash was soon after.
    pub last_reference_time: FileTime,
    /// The boot that noted it.
    pub last_update_boot: u32,
    /// Boots tried since the last that succeeded.
    pub boot_attempts: u8,
    /// The boot passed its last checkpoint.
    pub last_boot_checkpoint: bool,
    /// This boot's number.
    pub boot_id: u32,
    /// The last boot that ended with a shutdown.
    pub last_shutdown_boot: u32,
    /// The last boot whose abnormal end was reported.
    pub last_abnormal_boot: u32,
}

/// NTFS' black box, as far as its head is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NtfsBlackBox {
    /// When it was set up.
    pub since: FileTime,
    /// Something stands behind its head: a record of slow or stuck I/O. Records are not decoded.
    pub has_records: bool,
}

fn blob<'d>(dump: &'d Dump, guid: Guid, what: &str) -> Result<&'d [u8], String> {
    let found = dump.secondary().iter().find(|blob| blob.guid == guid);
    found.map(stopcode_dump::Blob::data).ok_or_else(|| format!("this dump has no black box of {what}"))
}

/// Decodes the boot status data.
pub(crate) fn boot_status(dump: &Dump) -> Fact<BootStatus> {
    match blob(dump, BOOT_STATUS, "the boot status") {
        Ok(data) => decode_boot_status(data).map_or_else(
            || Fact::missing("the boot status data are cut short, or have another form"),
            |status| Fact::known(status, "boot status data"),
        ),
        Err(reason) => Fact::missing(reason),
    }
}

fn decode_boot_status(data: &[u8]) -> Option<BootStatus> {
    let fields = Bytes(data);
    let flag = |at| fields.u8(at).map(|byte| byte == 1);
    let size = fields.u32(0)?;
    if size as usize != data.len() {
        return None;
    }
    let running = fields.u8(0x18)?;
    Some(BootStatus {
        size,
        product_type: fields.u32(4)?,
        auto_advanced_boot: flag(8)?,
        menu_timeout: fields.u8(9)?,
        last_boot_succeeded: flag(0xa)?,
        last_boot_shutdown: flag(0xb)?,
        power_button: FileTime(fields.u64(0x10)?),
        system_running: running & 1 != 0,
        connected_standby: running & 2 != 0,
        user_shutdown: running & 4 != 0,
        system_shutdown: running & 8 != 0,
        sleep_in_progress: running >> 4,
        last_reference_time: FileTime(fields.u64(0x20)?),
        last_update_boot: fields.u32(0x2c)?,
        boot_attempts: fields.u8(0x30)?,
        last_boot_checkpoint: flag(0x31)?,
        boot_id: fields.u32(0x34)?,
        last_shutdown_boot: fields.u32(0x38)?,
        last_abnormal_boot: fields.u32(0x3c)?,
    })
}

/// Decodes the head of NTFS' black box.
pub(crate) fn ntfs(dump: &Dump) -> Fact<NtfsBlackBox> {
    const HEAD: usize = 0x18;
    let data = match blob(dump, NTFS, "NTFS") {
        Ok(data) => data,
        Err(reason) => return Fact::missing(reason),
    };
    match (Bytes(data).u64(8), data.get(HEAD..)) {
        (Some(since), Some(rest)) => {
            let has_records = rest.iter().any(|byte| *byte != 0);
            Fact::known(NtfsBlackBox { since: FileTime(since), has_records }, "NTFS black box")
        }
        _ => Fact::missing("the black box of NTFS is cut short"),
    }
}

/// What plug and play was working on.
pub(crate) fn pnp(dump: &Dump) -> Fact<PnpActivity> {
    let found = dump.secondary().iter().find_map(|blob| match blob.content()? {
        Content::Pnp(activity) => Some(activity),
        _ => None,
    });
    found.map_or_else(
        || Fact::missing("this dump has no black box of plug and play"),
        |activity| Fact::known(activity, "plug and play black box"),
    )
}

/// How far the logon had come.
pub(crate) fn winlogon(dump: &Dump) -> Fact<String> {
    let found = dump.secondary().iter().find_map(|blob| match blob.content()? {
        Content::Winlogon(step) => Some(step),
        _ => None,
    });
    found.map_or_else(
        || Fact::missing("this dump has no black box of the logon"),
        |step| Fact::known(step, "logon black box"),
    )
}

/// In words, one line each.
pub(crate) fn in_progress(dump: &Dump) -> Vec<String> {
    dump.secondary()
        .iter()
        .filter_map(|blob| match blob.content()? {
            Content::Pnp(activity) if !activity.device.is_empty() => Some(format!(
                "Plug and Play was working on {} since {}",
                model(&activity.device),
                activity.since
            )),
            Content::Winlogon(step) if !step.is_empty() => Some(format!("the logon was at the step {step}")),
            _ => None,
        })
        .collect()
}

/// A device instance path without its last part, which may be a serial number.
fn model(path: &str) -> &str {
    path.rsplit_once('\\').map_or(path, |(model, _)| model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_status_of_a_desktop() {
        // Figures as one dump of 19041 has them, with another boot number.
        let mut data = vec![0; 0xb0];
        data[0] = 0xb0;
        data[4] = 1;
        data[9..11].copy_from_slice(&[0x1e, 1]);
        data[0x18] = 0x41;
        data[0x20..0x28].copy_from_slice(&0x01d8_e988_f009_9c06_u64.to_le_bytes());
        data[0x2c] = 0x77;
        data[0x30..0x32].copy_from_slice(&[1, 1]);
        data[0x34] = 0x77;
        data[0x38] = 0x70;
        data[0x3c] = 0x76;
        let status = decode_boot_status(&data).unwrap();
        assert_eq!(
            (status.menu_timeout, status.last_boot_succeeded, status.last_boot_shutdown),
            (30, true, false)
        );
        assert!(status.system_running && !status.system_shutdown);
        assert_eq!(status.sleep_in_progress, 4);
        assert!(status.last_reference_time.to_string().starts_with("2022-10-26T"));
        assert_eq!(
            (status.boot_id, status.last_shutdown_boot, status.last_abnormal_boot),
            (0x77, 0x70, 0x76)
        );
        data[0] = 0xb1;
        assert_eq!(decode_boot_status(&data), None);
    }
}
