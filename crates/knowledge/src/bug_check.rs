//! Bug checks: what a stop code means, and what its subcodes say.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::Error};

use crate::table::{Table, hex, leading_text, table};

pub(crate) const BUG_CHECKS: Table = table!("bugchecks.jsonl");
pub(crate) const SUBCODES: Table = table!("subcodes.jsonl");

/// Marks a bug check as the variant that small dumps carry (0x7E becomes 0x1000007E).
const MINIDUMP_BIT: u32 = 0x1000_0000;

words! {
    /// What a bug check parameter holds.
    ParamKind {
        /// An address that is none of the more precise kinds.
        Address = "address",
        /// How memory was touched: read, write or execute, in an encoding that depends on the bug check.
        AccessType = "access_type",
        /// A CONTEXT record.
        ContextPtr = "context_ptr",
        /// A number of things.
        Count = "count",
        /// A processor number.
        CpuNumber = "cpu_number",
        /// A DEVICE_OBJECT.
        DeviceObjectPtr = "device_object_ptr",
        /// A DRIVER_OBJECT.
        DriverObjectPtr = "driver_object_ptr",
        /// An EXCEPTION_RECORD.
        ExceptionRecordPtr = "exception_record_ptr",
        /// A set of bits.
        Flags = "flags",
        /// The address of an instruction.
        InstructionAddress = "instruction_address",
        /// An IRP.
        IrpPtr = "irp_ptr",
        /// An interrupt request level.
        Irql = "irql",
        /// An NTSTATUS, often sign-extended to 64 bits.
        NtStatus = "ntstatus",
        /// Something the text describes.
        Other = "other",
        /// A page frame number.
        Pfn = "pfn",
        /// The address of a pool block.
        PoolAddress = "pool_address",
        /// A pool tag: four characters.
        PoolTag = "pool_tag",
        /// An EPROCESS.
        ProcessPtr = "process_ptr",
        /// The address of a page table entry.
        PtePtr = "pte_ptr",
        /// Not used.
        Reserved = "reserved",
        /// A size in bytes.
        Size = "size",
        /// A string, or a structure that holds one.
        StringPtr = "string_ptr",
        /// A value that selects what happened.
        Subcode = "subcode",
        /// A KTHREAD.
        ThreadPtr = "thread_ptr",
        /// A number of clock ticks.
        TimeoutTicks = "timeout_ticks",
        /// A KTRAP_FRAME.
        TrapFramePtr = "trap_frame_ptr",
        /// A WHEA_ERROR_RECORD.
        WheaRecordPtr = "whea_record_ptr",
    }
}

words! {
    /// What is typically behind a bug check.
    Cause {
        /// A security product.
        Antivirus = "antivirus",
        /// Some driver.
        Driver = "driver",
        /// A file system or what sits on it.
        Filesystem = "filesystem",
        /// Firmware: BIOS, UEFI, ACPI tables.
        Firmware = "firmware",
        /// Graphics: driver or card.
        Graphics = "graphics",
        /// A processor.
        HardwareCpu = "hardware_cpu",
        /// Memory modules.
        HardwareMemory = "hardware_memory",
        /// Network drivers and filters.
        Network = "network",
        /// Windows itself.
        Os = "os",
        /// Settings beyond specification.
        Overclock = "overclock",
        /// Power transitions.
        Power = "power",
        /// A kernel stack that ran out.
        StackOverflow = "stack_overflow",
        /// Disks, controllers and their drivers.
        Storage = "storage",
        /// USB devices and drivers.
        Usb = "usb",
        /// A critical process in user mode.
        UserModeProcess = "user_mode_process",
        /// Driver Verifier found what it looks for.
        Verifier = "verifier",
    }
}

/// What a parameter of a bug check means.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Param {
    /// What it holds.
    pub kind: ParamKind,
    /// The same in words, more precisely.
    #[serde(default = "not_used")]
    pub text: String,
}

/// The files leave out the text of parameters that are not used.
fn not_used() -> String {
    "not used".to_owned()
}

/// A bug check.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BugCheck {
    /// The stop code as listed.
    #[serde(deserialize_with = "hex_code")]
    pub code: u32,
    /// Its symbolic name.
    pub name: String,
    /// Other names that headers give the same code.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// One sentence on what happened.
    pub summary: String,
    /// The four parameters, where no subcode says otherwise.
    pub params: [Param; 4],
    /// Which parameter, 1 to 4, selects a subcode, where the subcodes are known.
    #[serde(default)]
    pub subcode_param: Option<u8>,
    /// Meanings of particular values: parameter number → value → text.
    #[serde(default)]
    pub(crate) param_values: BTreeMap<String, BTreeMap<String, String>>,
    /// What is typically behind it, likeliest first.
    pub typical_causes: Vec<Cause>,
    /// Whether Windows reports this without stopping.
    #[serde(default)]
    pub live_dump: bool,
    /// Whether Microsoft documents it; otherwise the summary is read off the name alone.
    pub documented: bool,
    /// The code this is a variant of, and whose subcodes it shares.
    #[serde(default, deserialize_with = "optional_hex_code")]
    pub same_as: Option<u32>,
    /// Where the facts come from.
    pub source: String,
}

/// What the selecting parameter of a bug check says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subcode {
    /// The bug check.
    #[serde(deserialize_with = "hex_code")]
    pub code: u32,
    /// The value of the selecting parameter.
    #[serde(deserialize_with = "hex_value")]
    pub value: u64,
    /// What it means.
    pub meaning: String,
    /// The rule that was broken, by its Driver Verifier name.
    #[serde(default)]
    pub rule: Option<String>,
    /// What other parameters mean with this subcode, by number.
    #[serde(default)]
    pub(crate) params: BTreeMap<String, Param>,
}

impl BugCheck {
    /// What `value` says where the selecting parameter holds it; `None` where that is not known.
    pub fn subcode(&self, value: u64) -> Option<Subcode> {
        self.subcode_param?;
        let wanted = (Some(u64::from(self.same_as.unwrap_or(self.code))), Some(value));
        SUBCODES.record(|line| (hex(leading_text(line, 0)), hex(leading_text(line, 1))).cmp(&wanted))
    }

    /// The subcode that these parameters select.
    pub fn selected_subcode(&self, args: &[u64; 4]) -> Option<Subcode> {
        let index = usize::from(self.subcode_param?).checked_sub(1)?;
        self.subcode(*args.get(index)?)
    }

    /// What this particular value of parameter `index` (1 to 4) means, where the table says so.
    pub(crate) fn value_text(&self, index: usize, value: u64) -> Option<&str> {
        let text = self.param_values.get(&index.to_string())?.get(&format!("{value:#x}"))?;
        Some(text)
    }
}

impl Subcode {
    /// What parameter `index` (1 to 4) means with this subcode, where that differs from the bug check's own.
    pub fn param(&self, index: usize) -> Option<&Param> {
        self.params.get(&index.to_string())
    }
}

/// What is known of the bug check `code`, or of its base where only that is listed (see [`base_code`]).
pub fn bug_check(code: u32) -> Option<BugCheck> {
    listed(code).or_else(|| listed(code & !MINIDUMP_BIT).filter(|_| has_minidump_bit(code)))
}

/// Whether `code` or its base is a bug check of Windows. Drivers may stop the machine with codes of their own.
pub fn is_known(code: u32) -> bool {
    is_listed(base_code(code).base)
}

/// A stop code without the mark of small dumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseCode {
    /// The code as given.
    pub code: u32,
    /// The code without the mark.
    pub base: u32,
    /// Whether there was a mark.
    pub minidump_bit: bool,
}

/// Takes the mark of small dumps (bit 28) off a code, only where what is left is a known one: 0x1000007E gives
/// 0x7E, but 0xC000021A and a driver's own 0xA0000001 stay whole.
pub fn base_code(code: u32) -> BaseCode {
    let base = code & !MINIDUMP_BIT;
    if has_minidump_bit(code) && is_listed(base) {
        BaseCode { code, base, minidump_bit: true }
    } else {
        BaseCode { code, base: code, minidump_bit: false }
    }
}

fn has_minidump_bit(code: u32) -> bool {
    code & 0xF000_0000 == MINIDUMP_BIT
}

fn by_code(code: u32) -> impl Fn(&str) -> std::cmp::Ordering {
    move |line| hex(leading_text(line, 0)).cmp(&Some(u64::from(code)))
}

fn listed(code: u32) -> Option<BugCheck> {
    BUG_CHECKS.record(by_code(code))
}

fn is_listed(code: u32) -> bool {
    BUG_CHECKS.line(by_code(code)).is_some()
}

fn hex_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    hex(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is not a number such as 0x7e")))
}

fn hex_code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    u32::try_from(hex_value(deserializer)?).map_err(D::Error::custom)
}

fn optional_hex_code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    hex_code(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_codes_are_known() {
        let bug_check = bug_check(0x7e).unwrap();
        assert_eq!(bug_check.name, "SYSTEM_THREAD_EXCEPTION_NOT_HANDLED");
        assert_eq!(bug_check.params[0].kind, ParamKind::NtStatus);
        assert_eq!(bug_check.params[3].kind, ParamKind::ContextPtr);
        assert_eq!(bug_check.typical_causes.first(), Some(&Cause::Driver));
        assert!(bug_check.documented && !bug_check.live_dump);
        assert_eq!(super::bug_check(0xdead_dead).unwrap().name, "MANUALLY_INITIATED_CRASH1");
        assert_eq!(super::bug_check(0x1f_ffff), None);
    }

    #[test]
    fn the_mark_of_small_dumps_is_taken_off_known_codes_only() {
        let base = |code| (base_code(code).base, base_code(code).minidump_bit);
        assert_eq!(base(0x1000007e), (0x7e, true));
        assert_eq!(base(0x100000ea), (0xea, true));
        assert_eq!(base(0x100000d1), (0xd1, true));
        for whole in
            [0x7e, 0xc000021a, 0xa0000001, 0xdeaddead, 0x4000007e, 0x5000007e, 0x1fffffff, 0xf000007e]
        {
            assert_eq!(base(whole), (whole, false), "{whole:#x}");
        }
    }

    #[test]
    fn a_drivers_own_code_is_not_windows() {
        assert!(!is_known(0xa0000001));
        assert_eq!(bug_check(0xa0000001), None);
        for known in [0xa, 0x1000007e, 0x100000d1, 0x100000ea, 0xc000021a] {
            assert!(is_known(known), "{known:#x}");
        }
        // Only 0xD1 itself is listed; its small-dump form means the same.
        assert_eq!(bug_check(0x100000d1).unwrap().code, 0xd1);
    }

    #[test]
    fn a_variant_has_its_own_name_and_the_bases_subcodes() {
        let variant = bug_check(0x1000007f).unwrap();
        assert_eq!((variant.name.as_str(), variant.same_as), ("UNEXPECTED_KERNEL_MODE_TRAP_M", Some(0x7f)));
        assert_eq!(variant.subcode(8), bug_check(0x7f).unwrap().subcode(8));
        assert!(variant.subcode(8).unwrap().meaning.contains("double fault"));
    }

    #[test]
    fn a_subcode_is_selected_by_the_parameter_the_table_names() {
        let fault = bug_check(0x50).unwrap();
        assert_eq!(fault.subcode_param, Some(4));
        assert_eq!(fault.selected_subcode(&[4, 0, 0, 2]).unwrap().meaning, "no valid PTE maps the address");
        assert_eq!(fault.selected_subcode(&[2, 2, 2, 0x99]), None);
        assert_eq!(bug_check(0x7e).unwrap().selected_subcode(&[2; 4]), None);
    }
}
