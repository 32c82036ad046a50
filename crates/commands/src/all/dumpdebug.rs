//! `.dumpdebug`: the dump file itself.

use crate::command::Command;
use crate::show::{address, date, hex};
use serde_json::json;
use stopcode_base::VirtAddr;

pub(super) const COMMAND: Command = Command {
    name: ".dumpdebug",
    aliases: &[],
    letters: "",
    parameters: &[],
    what: "the header of the dump file, and what is wrong with it",
    details: "",
    examples: &[(".dumpdebug", "")],
    run: |session, _, output| {
        let machine = session.machine();
        let (dump, header) = (machine.dump(), machine.dump().header());
        output.line(format!("----- {} dump header analysis, {} bytes", dump.kind_id(), dump.file_size()))?;
        output.line(format!("MajorVersion        {:08x}", header.major_version))?;
        output.line(format!("MinorVersion        {:08x}", header.minor_version))?;
        let places = [
            ("PfnDataBase", header.pfn_database),
            ("PsLoadedModuleList", header.ps_loaded_module_list),
            ("PsActiveProcessHead", header.ps_active_process_head),
            ("KdDebuggerDataBlock", header.kd_debugger_data_block),
        ];
        if let Some(base) = header.directory_table_base {
            output.line(format!("DirectoryTableBase  {}", output.at(VirtAddr(base.0))))?;
        }
        for (name, at) in places {
            if let Some(at) = at {
                output.line(format!("{name:<19} {}", output.at(at)))?;
            }
        }
        output.line(format!("MachineImageType    {:08x}", header.machine_image_type))?;
        output.line(format!("NumberProcessors    {:08x}", header.number_processors))?;
        output.line(format!("BugCheckCode        {:08x}", header.bug_check_code))?;
        for (number, value) in header.bug_check_parameters.iter().enumerate() {
            output.line(format!("BugCheckParameter{}  {}", number + 1, output.word(*value)))?;
        }
        if let Some(time) = header.system_time {
            output.line(format!("SystemTime          {} (UTC)", date(time, true)))?;
        }
        if let Some(comment) = header.comment.as_deref().filter(|comment| !comment.is_empty()) {
            output.line(format!("Comment             {comment}"))?;
        }
        if let Some(attributes) = header.attributes {
            let names: Vec<&str> = attributes.names().collect();
            output.line(format!("Attributes          {:08x} {}", attributes.0, names.join(" ")))?;
        }
        if let Some(triage) = dump.triage() {
            output.line(format!("Drivers             {}", triage.drivers.len()))?;
            output.line(format!("Unloaded drivers    {}", triage.unloaded.len()))?;
            output.line(format!("Top of stack        {}", output.at(triage.top_of_stack)))?;
            output.line(format!("Bytes of stack      {:#x}", triage.call_stack.len()))?;
            output.line(format!("Data blocks         {}", triage.data_blocks.len()))?;
        }
        for problem in dump.problems() {
            output.line(format!("problem: {} ({})", problem.what, problem.place))?;
        }
        Ok(json!({
            "kind": dump.kind_id(), "size": dump.file_size(), "major_version": header.major_version,
            "minor_version": header.minor_version, "processors": header.number_processors,
            "machine": hex(header.machine_image_type),
            "directory_table_base": header.directory_table_base.map(|base| hex(base.0)),
            "pfn_database": header.pfn_database.map(address),
            "ps_loaded_module_list": header.ps_loaded_module_list.map(address),
            "ps_active_process_head": header.ps_active_process_head.map(address),
            "debugger_data": header.kd_debugger_data_block.map(address),
            "attributes": header.attributes.map(|attributes| hex(attributes.0)),
            "problems": dump.problems().iter().map(|problem| &problem.what).collect::<Vec<_>>(),
        }))
    },
};
