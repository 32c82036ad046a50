//! Black boxes: what Windows noted to have in progress, out of a dump's secondary data.

use stopcode_dump::{Content, Dump};

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
