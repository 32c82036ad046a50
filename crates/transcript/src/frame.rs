//! One line of a stack, in any of the layouts of `k`, `kb`, `kv`, `kn`, `kf`, `kp`, `kc` and `!analyze`.

use crate::scan::{Column, column, contains_ci, hex, is_dashes, number};
use crate::site::{self, Site};

/// What a stack's heading says of its columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Layout {
    /// A frame number comes first (`#`).
    pub(crate) numbered: bool,
    /// The return address comes first and there is no stack pointer (64-bit `kb`).
    pub(crate) return_first: bool,
}

/// A frame as printed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct RawFrame {
    pub(crate) number: Option<u64>,
    pub(crate) stack_pointer: Option<u64>,
    pub(crate) return_address: Option<u64>,
    /// The frame's own instruction, in lists that print it.
    pub(crate) instruction: Option<u64>,
    /// Arguments or the first stack slots, as far as printed.
    pub(crate) arguments: Vec<u64>,
    pub(crate) site: Site,
    /// An inlined function: no frame of its own on the stack.
    pub(crate) inline: bool,
    /// From `(TrapFrame @ …)`.
    pub(crate) trap_frame: Option<u64>,
    /// The addresses have 16 digits.
    pub(crate) wide: bool,
}

/// What a line is, seen as a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// A frame; the text behind the call site.
    Frame(Box<RawFrame>, String),
    /// The start of a frame whose call site must be in the next line; how many addresses it has.
    Partial { addresses: usize, arguments: bool },
    /// Something else.
    Other,
}

/// The heading of a stack, if `line` is one: `Child-SP  RetAddr  : Args to Child : Call Site`.
pub(crate) fn heading(line: &str) -> Option<Layout> {
    let line = line.trim();
    if line.len() > 200 {
        return None;
    }
    let numbered = line.starts_with('#');
    let first = line.trim_start_matches('#').trim_start();
    let first = first.strip_prefix("Memory").map_or(first, str::trim_start);
    let starts = |word: &str| first.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
    let known = if starts("Child-SP") || starts("ChildEBP") || starts("Child-FP") || starts("FramePtr") {
        contains_ci(first, "Ret")
    } else {
        (starts("RetAddr") && (contains_ci(first, "args to child") || contains_ci(first, "call site")))
            || first == "Call Site"
    };
    known.then_some(Layout { numbered, return_first: starts("RetAddr") })
}

/// Reads `line` as a frame. Without a heading (`layout` is `None`) at least one address is demanded.
pub(crate) fn read(line: &str, layout: Option<Layout>) -> Reading {
    let mut columns = Columns::default();
    let rest = columns.take(line.trim(), layout);
    let addresses = columns.before.len() + columns.behind.len();
    if columns.glued {
        return Reading::Other;
    }
    let anonymous = addresses == 0 && !columns.inline && columns.number.is_none();
    if anonymous && layout.is_none() {
        return Reading::Other;
    }
    let started = addresses > 0 || columns.inline;
    if rest.is_empty() {
        let partial = Reading::Partial { addresses, arguments: columns.colons > 0 };
        return if started { partial } else { Reading::Other };
    }
    let Some(parsed) = site::parse(rest) else {
        return Reading::Other;
    };
    if parsed.open {
        return if started {
            Reading::Partial { addresses, arguments: columns.colons > 0 }
        } else {
            Reading::Other
        };
    }
    let note = parsed.rest.trim();
    // Without an address only a bare name is a frame: prose may begin with `nt!Foo`, too.
    if !(started || note.is_empty() || note.starts_with(['[', '(', '<'])) {
        return Reading::Other;
    }
    let frame = columns.into_frame(parsed.site, layout.is_some_and(|layout| layout.return_first), note);
    Reading::Frame(Box::new(frame), note.to_owned())
}

/// The columns of a line up to its call site.
#[derive(Default)]
struct Columns {
    number: Option<u64>,
    inline: bool,
    /// Addresses before the first colon.
    before: Vec<Column>,
    /// Addresses behind it.
    behind: Vec<Column>,
    colons: u32,
    /// Something that is no column stands between columns.
    glued: bool,
}

impl Columns {
    /// Reads columns off the front of `line` and gives back the rest.
    fn take<'a>(&mut self, line: &'a str, layout: Option<Layout>) -> &'a str {
        let mut rest = self.take_number(line, layout);
        for _ in 0..16 {
            rest = rest.trim_start();
            if let Some(inner) = rest.strip_prefix("(Inline").or_else(|| rest.strip_prefix("(inline")) {
                let Some((_, behind)) = inner.split_once(')') else { return rest };
                self.inline = true;
                rest = behind;
                continue;
            }
            let (token, behind) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let bare = token.trim_matches(':');
            if bare.is_empty() && !token.is_empty() {
                self.colons += 1;
            } else if let Some(found) =
                column(bare).filter(|_| !token.starts_with("0x") || !behind.trim().is_empty())
            {
                self.colons += u32::from(token.starts_with(':'));
                let side = if self.colons == 0 { &mut self.before } else { &mut self.behind };
                side.push(found);
                self.colons += u32::from(token.ends_with(':'));
            } else if !is_dashes(bare) {
                return rest;
            }
            rest = behind;
        }
        self.glued = true;
        rest
    }

    /// Takes the frame number and the size column of `kf`, where they stand.
    fn take_number<'a>(&mut self, line: &'a str, layout: Option<Layout>) -> &'a str {
        let (token, behind) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let short = token.len() <= 3;
        let Some(value) = hex(token).filter(|_| short) else {
            return line;
        };
        let behind = behind.trim_start();
        let (next, after) = behind.split_once(char::is_whitespace).unwrap_or((behind, ""));
        let next = next.trim_end_matches(':');
        let is_start = |token: &str| {
            column(token).is_some()
                || is_dashes(token)
                || token.starts_with("(Inline")
                || token.starts_with("(inline")
        };
        let numbered = layout.is_some_and(|layout| layout.numbered);
        if is_start(next)
            || (layout.is_some()
                && (next.contains('!') || next.contains("+0x") || next.is_empty() || next == ":"))
        {
            self.number = Some(value);
            return behind;
        }
        // `kf`: the number, then the bytes that the frame takes.
        let sized = hex(next).is_some() && after.split_whitespace().next().is_some_and(is_start);
        if sized && (numbered || layout.is_none()) {
            self.number = Some(value);
            return after;
        }
        line
    }

    fn into_frame(self, site: Site, return_first: bool, note: &str) -> RawFrame {
        let value = |column: Option<&Column>| column.map(|column| column.value);
        let wide = self.before.iter().chain(&self.behind).any(|column| column.wide);
        // One address before the arguments is `kb`'s return address; one address and a name is `k` without it.
        let (stack_pointer, return_address, used) =
            if return_first || (self.before.len() == 1 && self.behind.len() >= 3) {
                (None, value(self.before.first()), 1)
            } else {
                (value(self.before.first()), value(self.before.get(1)), 2)
            };
        let arguments =
            self.before.iter().skip(used).chain(&self.behind).map(|column| column.value).collect();
        let trap_frame =
            note.split_once("(TrapFrame @ ").and_then(|(_, rest)| number(rest.split(')').next()?));
        RawFrame {
            number: self.number,
            stack_pointer,
            return_address,
            instruction: None,
            arguments,
            site,
            inline: self.inline,
            trap_frame,
            wide,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(line: &str, heading_line: &str) -> RawFrame {
        match read(line, heading(heading_line)) {
            Reading::Frame(frame, _) => *frame,
            other => panic!("{line}: {other:?}"),
        }
    }

    const SP: u64 = 0xffff_f880_009b_9df0;
    const RET: u64 = 0xffff_f800_0328_9632;

    #[test]
    fn every_layout() {
        let k = "Child-SP          RetAddr           Call Site";
        let kn = " # Child-SP          RetAddr               Call Site";
        let kf = " #   Memory  Child-SP          RetAddr           Call Site";
        let kv = "Child-SP          RetAddr           : Args to Child   : Call Site";
        let kb = "RetAddr           : Args to Child     : Call Site";
        for (line, head) in [
            ("fffff880`009b9df0 fffff800`03289632 nt!KiBugCheckDispatch+0x69", k),
            ("fffff880009b9df0 fffff80003289632 nt!KiBugCheckDispatch+0x69", k),
            ("fffff880`009b9df0 fffff800`03289632 nt!KiBugCheckDispatch+0x69", ""),
            ("01 fffff880`009b9df0 fffff800`03289632     nt!KiBugCheckDispatch+0x69", kn),
            ("01 fffff880`009b9df0 fffff800`03289632     nt!KiBugCheckDispatch+0x69", ""),
            ("01         8 fffff880`009b9df0 fffff800`03289632 nt!KiBugCheckDispatch+0x69", kf),
            (
                "fffff880`009b9df0 fffff800`03289632 : 00000000`0000007f 00000000`00000008 : nt!KiBugCheckDispatch+0x69",
                kv,
            ),
            ("0xfffff880009b9df0 0xfffff80003289632 nt!KiBugCheckDispatch+0x69", k),
        ] {
            let frame = frame(line, head);
            assert_eq!((frame.stack_pointer, frame.return_address), (Some(SP), Some(RET)), "{line}");
            assert_eq!((frame.site.symbol.as_deref(), frame.site.offset), (Some("KiBugCheckDispatch"), 0x69));
        }
        let of_kb = frame(
            "fffff800`03289632 : 00000000`0000007f 00000000`00000008 00000000`80050033 00000000`000406f8 : nt!X+0x1",
            kb,
        );
        assert_eq!((of_kb.stack_pointer, of_kb.return_address, of_kb.arguments.len()), (None, Some(RET), 4));
        assert_eq!(frame("fffff800`03289632 :  : nt!X+0x1", kb).return_address, Some(RET));
        assert_eq!(frame("00 nt!KeBugCheckEx", " # Call Site").site.module, "nt");
        assert_eq!(frame("                  nt!KeBugCheckEx", k).site.module, "nt");
        let only_sp = frame("fffffe80`77187548                   nt!KeBugCheckEx", k);
        assert_eq!((only_sp.stack_pointer, only_sp.return_address), (Some(0xffff_fe80_7718_7548), None));
    }

    #[test]
    fn x86_layouts() {
        let line =
            "8dd9f5c0 832b78ad 85f6da70 00000000 807c7120 nt!KiSwapContext+0x26 (FPO: [Uses EBP] [0,0,4])";
        let of_kv = frame(line, "ChildEBP RetAddr  Args to Child");
        assert_eq!((of_kv.stack_pointer, of_kv.return_address), (Some(0x8dd9_f5c0), Some(0x832b_78ad)));
        assert_eq!(of_kv.arguments, [0x85f6_da70, 0, 0x807c_7120]);
        let analyzed = frame("8dd9f5c0 832b78ad : 85f6da70 00000000 807c7120 : nt!KiSwapContext+0x26", "");
        assert_eq!(analyzed.return_address, Some(0x832b_78ad));
    }

    #[test]
    fn inline_frames() {
        for line in [
            "(Inline Function) --------`-------- : dokan1!DokanAllocZero+0x16",
            "01 (Inline Function)     : --------`-------- --------`-------- : dokan1!DokanAllocZero+0x16 [a b.c @ 4]",
            "02 (Inline Function) --------`--------     dokan1!DokanAllocZero+0x16",
        ] {
            let frame = frame(line, "Child-SP RetAddr Call Site");
            assert!(frame.inline && frame.site.symbol.as_deref() == Some("DokanAllocZero"), "{line}");
        }
        let trap = frame(
            "fffff880`009b9df0 fffff800`03289632 nt!KiPageFault+0x260 (TrapFrame @ fffff880`1099d660)",
            "",
        );
        assert_eq!(trap.trap_frame, Some(0xffff_f880_1099_d660));
    }

    #[test]
    fn what_is_no_frame() {
        for line in [
            "fffff880`0181f000 fffff880`01bc3000   iaStor   (no symbols)",
            "fffff800`032aa85b 5e       pop   rsi",
            "rax=0000000000000000 rbx=0000000000000000",
            "nt!KiIpiSendRequest+0x2eb:",
            "The crash was in nt!KeBugCheckEx",
            "",
        ] {
            assert_eq!(read(line, None), Reading::Other, "{line}");
        }
        let partial = Reading::Partial { addresses: 2, arguments: false };
        assert_eq!(read("0a fffff880`03dcd4d0 fffff880`018443f5", None), partial);
        assert_eq!(read("fffff880`03dcd4d0 fffff880`018443f5 nt!", None), partial);
        assert_eq!(heading("RetAddr is the address it returns to"), None);
        assert_eq!(heading("# Child-SP         Return           Call Site").map(|l| l.numbered), Some(true));
    }
}
