//! `!pcr`

use super::facts::{Record, processor, registers};
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use stopcode_kernel::SpecialRegisters;

pub(super) const COMMAND: Command = Command {
    name: "!pcr",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("PROCESSOR", Kind::Expression)],
    what: "the processor control region, and the control registers",
    details: "The machine-specific registers are shown where they were saved: a bug check leaves them out.",
    examples: &[("!pcr", "of the selected processor"), ("!pcr 2", "of processor 2")],
    run: |session, arguments, output| {
        let state = processor(session, arguments.number("PROCESSOR"))?;
        let arch = output.arch();
        let mut record = Record::default();
        record.set("processor", state.number);
        let pcr =
            record.fact(output, "pcr", &state.pcr, |at| arch.windbg(*at), |at| crate::show::address(*at));
        output.line(format!("KPCR for Processor {} at {pcr}:", state.number))?;
        output.line(format!("             Prcb: {}", output.word(state.prcb.0)))?;
        record.set("prcb", crate::show::address(state.prcb));
        for (name, key, fact) in [
            ("CurrentThread", "current_thread", &state.current_thread),
            ("NextThread", "next_thread", &state.next_thread),
            ("IdleThread", "idle_thread", &state.idle_thread),
        ] {
            let shown = record.word(output, key, fact);
            output.line(format!("{name:>17}: {shown}"))?;
        }
        let irql = record.count(output, "saved_irql", &state.saved_irql);
        output.line(format!("{:>17}: {irql}", "Saved IRQL"))?;
        let special = state.special.value();
        record.fact(
            output,
            "special",
            &state.special,
            |_| String::new(),
            |special| registers(&named(special)),
        );
        if let Some(special) = special {
            for row in named(special).chunks(2) {
                let shown: Vec<String> =
                    row.iter().map(|(name, value)| format!("{name:>17}: {}", output.word(*value))).collect();
                output.line(shown.join(" "))?;
            }
        }
        let queue = record.count(output, "dpc_depth", &state.dpc.depth);
        output.line(format!("{:>17}: {queue} waiting", "DpcQueue"))?;
        Ok(record.into_data())
    },
};

fn named(special: &SpecialRegisters) -> Vec<(&'static str, u64)> {
    let [dr0, dr1, dr2, dr3, dr6, dr7] = special.debug;
    let mut all = vec![
        ("idtr", special.idtr.base.0),
        ("gdtr", special.gdtr.base.0),
        ("cr0", special.cr0),
        ("cr2", special.cr2),
        ("cr3", special.cr3),
        ("cr4", special.cr4),
    ];
    all.extend(special.cr8.map(|cr8| ("cr8", cr8)));
    all.extend([
        ("tr", special.tr.into()),
        ("dr0", dr0),
        ("dr1", dr1),
        ("dr2", dr2),
        ("dr3", dr3),
        ("dr6", dr6),
        ("dr7", dr7),
    ]);
    if let Some(msrs) = special.msrs {
        all.extend([
            ("gs_base", msrs.gs_base),
            ("kernel_gs_base", msrs.gs_swap),
            ("star", msrs.star),
            ("lstar", msrs.lstar),
            ("cstar", msrs.cstar),
            ("fmask", msrs.syscall_mask),
        ]);
    }
    all
}
