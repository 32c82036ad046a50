//! The four numbers of a bug check, each with its meaning.

use crate::bug_check::{BugCheck, Param, ParamKind, Subcode};
use crate::{enums, ntstatus};

/// What one argument of a bug check means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgumentMeaning {
    /// What it holds.
    pub kind: ParamKind,
    /// What it holds, in words.
    pub text: String,
    /// What this very value says, where that is known: the subcode, the status, the kind of access …
    pub value_text: Option<String>,
}

impl BugCheck {
    /// What the four arguments mean together.
    pub fn arguments(&self, args: &[u64; 4]) -> [ArgumentMeaning; 4] {
        let subcode = self.selected_subcode(args);
        let mut index = 0;
        args.map(|value| {
            index += 1;
            self.meaning(index, value, subcode.as_ref())
        })
    }

    /// What argument `index` (1 to 4) means beside the others; `None` for another index.
    pub fn argument(&self, index: usize, args: &[u64; 4]) -> Option<ArgumentMeaning> {
        let value = *args.get(index.checked_sub(1)?)?;
        Some(self.meaning(index, value, self.selected_subcode(args).as_ref()))
    }

    fn meaning(&self, index: usize, value: u64, subcode: Option<&Subcode>) -> ArgumentMeaning {
        let own = self.params.get(index.wrapping_sub(1));
        let selects = self.subcode_param.is_some_and(|selector| usize::from(selector) == index);
        let overriding = subcode.and_then(|subcode| subcode.param(index));
        let Param { kind, text } = overriding
            .or(own)
            .cloned()
            .unwrap_or_else(|| Param { kind: ParamKind::Other, text: String::new() });
        let value_text = match subcode {
            Some(subcode) if selects => Some(subcode.in_words()),
            // The table of values is for the parameter as the bug check has it, not as a subcode turns it.
            _ if overriding.is_none() => self.value_text(index, value).map(str::to_owned),
            _ => None,
        };
        let value_text = value_text.or_else(|| value_in_words(self.code, kind, value));
        ArgumentMeaning { kind, text, value_text }
    }
}

impl Subcode {
    /// The meaning, with the broken rule where there is one.
    fn in_words(&self) -> String {
        match &self.rule {
            Some(rule) => format!("rule {rule}: {}", self.meaning),
            None => self.meaning.clone(),
        }
    }
}

/// What a value says by its kind alone.
fn value_in_words(code: u32, kind: ParamKind, value: u64) -> Option<String> {
    match kind {
        ParamKind::NtStatus => {
            let status = ntstatus(sign_extended_status(value)?)?;
            Some(match status.meaning {
                Some(meaning) => format!("{}: {}", status.name, meaning.trim_end_matches('.')),
                None => status.name.to_owned(),
            })
        }
        // The arguments do not say the architecture; below 3 and for 0xFF all agree.
        ParamKind::Irql => enums::irql(u8::try_from(value).ok()?, "x64").map(str::to_owned),
        ParamKind::AccessType => enums::access(code, value, None).map(|access| access.to_string()),
        ParamKind::PoolTag => pool_tag(value),
        _ => None,
    }
}

/// An NTSTATUS in a 64-bit argument stands as it is or sign-extended.
fn sign_extended_status(value: u64) -> Option<u32> {
    matches!(value >> 32, 0 | 0xffff_ffff).then_some(value as u32)
}

fn pool_tag(value: u64) -> Option<String> {
    let tag = u32::try_from(value).ok()?.to_le_bytes();
    let printable = tag.iter().all(|byte| (0x20..0x7f).contains(byte));
    printable.then(|| tag.iter().map(|byte| char::from(*byte)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bug_check;

    fn values(code: u32, args: [u64; 4]) -> [Option<String>; 4] {
        bug_check(code).unwrap().arguments(&args).map(|argument| argument.value_text)
    }

    #[test]
    fn a_sign_extended_status_is_named() {
        // Arguments of a real 19041.804 dump.
        let [status, ..] = values(
            0x1000007e,
            [0xffffffffc0000005, 0xfffff8048b58334c, 0xffff850429891ee8, 0xffff850429891720],
        );
        assert!(status.unwrap().starts_with("STATUS_ACCESS_VIOLATION: "));
        assert_eq!(values(0x7e, [0x1_c0000005, 0, 0, 0])[0], None);
    }

    #[test]
    fn levels_and_accesses_are_named() {
        // Arguments of a real 19041.4522 dump.
        let [_, level, access, _] = values(0xd1, [0x29, 2, 0, 0xfffff800a56d1ae9]);
        assert_eq!((level.as_deref(), access.as_deref()), (Some("DISPATCH_LEVEL"), Some("read")));
        assert_eq!(values(0xa, [0, 0xff, 8, 0])[1].as_deref(), Some("interrupts disabled"));
        assert_eq!(values(0xd6, [0, 1, 0, 0])[1].as_deref(), Some("write"));
    }

    #[test]
    fn a_subcode_names_itself_and_turns_the_other_parameters() {
        let rule = bug_check(0xc4).unwrap().arguments(&[0x20002, 0xffff, 0, 0]);
        assert!(rule[0].value_text.as_deref().unwrap().starts_with("rule IrqlApcLte: "));
        assert_eq!(rule[1].kind, ParamKind::StringPtr);
        assert_eq!((rule[2].kind, rule[2].text.as_str()), (ParamKind::Reserved, "not used"));
        let pool = bug_check(0xc4).unwrap().arguments(&[0, 1, 0, 0]);
        assert_eq!((pool[1].kind, pool[1].value_text.as_deref()), (ParamKind::Irql, Some("APC_LEVEL")));
    }

    #[test]
    fn only_arguments_one_to_four_exist() {
        let bug_check = bug_check(0xd1).unwrap();
        let args = [1, 2, 0, 4];
        assert_eq!(bug_check.argument(0, &args), None);
        assert_eq!(bug_check.argument(5, &args), None);
        assert_eq!(bug_check.argument(2, &args).as_ref(), bug_check.arguments(&args).get(1));
    }

    #[test]
    fn a_pool_tag_is_text_only_if_it_can_be_printed() {
        assert_eq!(pool_tag(u64::from(u32::from_le_bytes(*b"Thre"))).as_deref(), Some("Thre"));
        assert_eq!(pool_tag(0x1_4141_4141), None);
        assert_eq!(pool_tag(3), None);
    }
}
