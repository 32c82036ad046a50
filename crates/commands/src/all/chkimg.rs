//! `!chkimg`

use super::facts::needed;
use crate::answer::Stop;
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use crate::show::{address, site};
use crate::symbols::modules;
use serde_json::{Value, json};
use stopcode_kernel::{Difference, ImageCheck};

/// Differences shown by `-d` where `-lo` does not say how many.
const SHOWN: u64 = 100;
/// Longer differences are cut in the list.
const MOST_BYTES: usize = 16;

pub(super) const COMMAND: Command = Command {
    name: "!chkimg",
    aliases: &[],
    letters: "",
    parameters: &[
        Parameter::switch("-d"),
        Parameter::switch("-v"),
        Parameter::option("-lo"),
        Parameter::optional("MODULE", Kind::Module),
    ],
    what: "code bytes that differ from the image",
    details: "Compares the module's code in the dump with its file among the symbols (`--symbols`), whose time stamp and size \
              have to be the module's: sections that are executed, not written to, and not given back after the start. \
              Addresses are moved to where the module was loaded; imports, and calls and values that the kernel patches by \
              the image's own tables, are not compared. `-d` lists what differs as `[ file:memory ]`, at most `-lo` of it, \
              and `-v` says how much was compared. Without MODULE it is `nt`.",
    examples: &[("!chkimg -lo 50 -d !nt", "as `!analyze` calls it")],
    run: |session, arguments, output| {
        let name = arguments.text("MODULE").unwrap_or("nt");
        let machine = session.machine();
        let module = modules(&machine, name.trim_start_matches('!')).next();
        let module =
            module.ok_or_else(|| Stop::unknown(format!("no module of this dump is called {name}")))?;
        let check = needed(machine.check_image(module))?;
        if check.compared == 0 {
            return Err(Stop::unknown(format!(
                "none of the {} bytes of {}'s code are in this dump",
                check.missing, module.display
            )));
        }
        if arguments.switch("-v") {
            output.line(format!("Comparing with {}", check.file.display()))?;
            output.line(format!(
                "{} bytes compared, {} not compared because the loader writes them, {} not in this dump",
                check.compared, check.excused, check.missing
            ))?;
        }
        if arguments.switch("-d") {
            list(session, &check, arguments.number("-lo").unwrap_or(SHOWN), output)?;
        }
        summary(&check, name, output)?;
        remarks(&check, output);
        Ok(described(session, &check))
    },
};

/// `3 errors : !nt (fffff803`16663ab5-fffff803`16663abc)`.
fn summary(check: &ImageCheck, name: &str, output: &mut Output) -> Result<(), Stop> {
    let ends = check.differences.first().zip(check.differences.last());
    let range = ends.map_or_else(String::new, |(first, last)| {
        let end = last.start.plus((last.found.len() as u64).saturating_sub(1));
        format!(" ({}-{})", output.word(first.start.0), output.word(end.0))
    });
    let errors = if check.errors == 1 { "error" } else { "errors" };
    output.line(format!("{} {errors} : {name}{range}", check.errors))
}

fn list(session: &Session, check: &ImageCheck, most: u64, output: &mut Output) -> Result<(), Stop> {
    let mut last = None;
    for difference in check.differences.iter().take(usize::try_from(most).unwrap_or(usize::MAX)) {
        let at = difference.start;
        let place = site(&session.machine().place(at)).unwrap_or_default();
        let distance =
            last.and_then(|last| at.offset_from(last)).map_or_else(String::new, |n| format!(" (+{n:#04x})"));
        let count = difference.found.len();
        let range = if count == 1 {
            output.word(at.0)
        } else {
            let end = at.plus(count as u64 - 1);
            format!("{}-{}  {count} bytes", output.word(at.0), output.word(end.0))
        };
        output.line(format!("    {range} - {place}{distance}"))?;
        let bit = difference.single_bit().map_or_else(String::new, |bit| format!("  one bit: {bit}"));
        output.line(format!(
            "        [ {}:{} ]{bit}",
            bytes(&difference.expected),
            bytes(&difference.found)
        ))?;
        last = Some(at);
    }
    Ok(())
}

fn bytes(all: &[u8]) -> String {
    let shown: Vec<String> = all.iter().take(MOST_BYTES).map(|byte| format!("{byte:02x}")).collect();
    let more = if all.len() > MOST_BYTES { " ..." } else { "" };
    shown.join(" ") + more
}

/// What a reader has to know before taking a difference for damage.
fn remarks(check: &ImageCheck, output: &mut Output) {
    if check.errors > 0 && !check.unknown_patches.is_empty() {
        let kinds: Vec<String> = check.unknown_patches.iter().map(u64::to_string).collect();
        output.missing(format!(
            "the image has dynamic relocations of kind {}, whose places are not known: a difference may be such a patch",
            kinds.join(", ")
        ));
    } else if check.missing > 0 {
        let all = check.compared + check.excused + check.missing;
        output.missing(format!("{} of {all} bytes of code are not in this dump", check.missing));
    }
}

fn described(session: &Session, check: &ImageCheck) -> Value {
    let one = |difference: &Difference| {
        json!({
            "address": address(difference.start), "bytes": difference.found.len(),
            "place": site(&session.machine().place(difference.start)),
            "expected": bytes(&difference.expected), "found": bytes(&difference.found),
            "single_bit": difference.single_bit(),
        })
    };
    json!({
        "file": check.file.display().to_string(), "compared": check.compared, "excused": check.excused,
        "missing": check.missing, "errors": check.errors, "unknown_patches": check.unknown_patches,
        "differences": check.differences.iter().map(one).collect::<Vec<_>>(),
    })
}
