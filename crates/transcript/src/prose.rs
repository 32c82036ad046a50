//! What people say around the output: products they name, and theories about what the processors did.

use crate::draft::Draft;
use stopcode_analysis::Topic;

/// Names as people write them, and what is meant. Only names that are no everyday word and no maker of every second
/// machine: `Norton` is a product, `Intel`, `Dell` or `Killer` say nothing.
const PRODUCTS: [(&str, &str); 78] = [
    ("kaspersky", "Kaspersky"),
    ("norton", "Norton"),
    ("symantec", "Symantec"),
    ("mcafee", "McAfee"),
    ("avast", "Avast"),
    ("avg", "AVG"),
    ("avira", "Avira"),
    ("bitdefender", "Bitdefender"),
    ("eset", "ESET"),
    ("nod32", "ESET NOD32"),
    ("malwarebytes", "Malwarebytes"),
    ("mbam", "Malwarebytes"),
    ("webroot", "Webroot"),
    ("zonealarm", "ZoneAlarm"),
    ("comodo", "Comodo"),
    ("trend micro", "Trend Micro"),
    ("sophos", "Sophos"),
    ("crowdstrike", "CrowdStrike"),
    ("sentinelone", "SentinelOne"),
    ("carbon black", "Carbon Black"),
    ("cylance", "Cylance"),
    ("cortex xdr", "Cortex XDR"),
    ("f-secure", "F-Secure"),
    ("g data", "G DATA"),
    ("dr.web", "Doctor Web"),
    ("doctor web", "Doctor Web"),
    ("360 total security", "360 Total Security"),
    ("huorong", "Huorong"),
    ("hitmanpro", "HitmanPro"),
    ("zemana", "Zemana"),
    ("superantispyware", "SUPERAntiSpyware"),
    ("iobit", "IObit"),
    ("peerblock", "PeerBlock"),
    ("daemon tools", "DAEMON Tools"),
    ("alcohol 120", "Alcohol 120%"),
    ("virtual clonedrive", "Virtual CloneDrive"),
    ("msi afterburner", "MSI Afterburner"),
    ("afterburner", "MSI Afterburner"),
    ("rivatuner", "RivaTuner"),
    ("ai suite", "ASUS AI Suite"),
    ("armoury crate", "ASUS Armoury Crate"),
    ("gpu tweak", "ASUS GPU Tweak"),
    ("dragon center", "MSI Dragon Center"),
    ("speedfan", "SpeedFan"),
    ("hwinfo", "HWiNFO"),
    ("aida64", "AIDA64"),
    ("cpu-z", "CPU-Z"),
    ("nzxt cam", "NZXT CAM"),
    ("icue", "Corsair iCUE"),
    ("razer synapse", "Razer Synapse"),
    ("ryzen master", "AMD Ryzen Master"),
    ("throttlestop", "ThrottleStop"),
    ("intel xtu", "Intel Extreme Tuning Utility"),
    ("extreme tuning utility", "Intel Extreme Tuning Utility"),
    ("rapid storage technology", "Intel Rapid Storage Technology"),
    ("irst", "Intel Rapid Storage Technology"),
    ("easyanticheat", "Easy Anti-Cheat"),
    ("easy anti-cheat", "Easy Anti-Cheat"),
    ("battleye", "BattlEye"),
    ("faceit", "FACEIT"),
    ("riot vanguard", "Riot Vanguard"),
    ("vmware", "VMware"),
    ("virtualbox", "VirtualBox"),
    ("bluestacks", "BlueStacks"),
    ("sandboxie", "Sandboxie"),
    ("acronis", "Acronis"),
    ("macrium", "Macrium"),
    ("dokan", "Dokan"),
    ("winfsp", "WinFsp"),
    ("winpcap", "WinPcap"),
    ("npcap", "Npcap"),
    ("openvpn", "OpenVPN"),
    ("wireguard", "WireGuard"),
    ("hamachi", "Hamachi"),
    ("cfosspeed", "cFosSpeed"),
    ("truecrypt", "TrueCrypt"),
    ("veracrypt", "VeraCrypt"),
    ("starforce", "StarForce"),
];

/// Words shortly before a name that take the mention back.
const DENIALS: [&str; 12] = [
    "no",
    "not",
    "without",
    "never",
    "uninstalled",
    "removed",
    "uninstalling",
    "removing",
    "don't",
    "isn't",
    "unlike",
    "neither",
];

/// Longer sentences are cut: nobody's theory is longer.
const LONGEST_SENTENCE: usize = 1200;

/// Draws remarks out of the prose of a crash.
pub(crate) fn study(draft: &mut Draft) {
    let lines = std::mem::take(&mut draft.prose);
    for paragraph in lines.split(String::is_empty).filter(|lines| !lines.is_empty()) {
        let text = paragraph.join(" ");
        products(draft, &text);
        for sentence in sentences(&text) {
            if is_theory(sentence) {
                draft.remark(Topic::Theory, sentence);
            }
        }
    }
}

/// The sentences of `text`. A full stop inside a word (`iaStor.sys`) ends none.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len();
        let mut previous = ' ';
        for (at, c) in rest.char_indices() {
            let stop = matches!(previous, '.' | '!' | '?') && c.is_whitespace();
            if stop || (at >= LONGEST_SENTENCE && c.is_whitespace()) || at >= LONGEST_SENTENCE * 2 {
                end = at;
                break;
            }
            previous = c;
        }
        let (sentence, tail) = rest.split_at_checked(end)?;
        rest = tail;
        Some(sentence.trim())
    })
}

/// True for a claim that processors were frozen or idle, or that an interprocessor interrupt was never served:
/// the reading of `!ipi` that a bug check's own freeze invites.
fn is_theory(sentence: &str) -> bool {
    let lower = sentence.to_lowercase();
    if lower.split_whitespace().count() < 5 {
        return false;
    }
    let has = |words: &[&str]| words.iter().any(|word| has_word(&lower, word));
    let who =
        has(&["processor", "processors", "cpu", "cpus", "core", "cores", "ipi", "interrupt", "interrupts"]);
    let stuck = has(&[
        "frozen",
        "freeze",
        "froze",
        "idle",
        "hung",
        "stuck",
        "unresponsive",
        "respond",
        "responding",
        "deadlocked",
    ]);
    let sent = has(&["ipi", "ipis", "interrupt", "interrupts", "inter-processor"]);
    let unserved =
        has(&["service", "serviced", "pending", "unserviced", "acknowledged", "acknowledge", "delivered"]);
    (who && stuck) || (sent && unserved)
}

/// Names products, and drivers by their file name.
fn products(draft: &mut Draft, text: &str) {
    let lower = text.to_lowercase();
    for (needle, name) in PRODUCTS {
        let at = lower.match_indices(needle).map(|(at, _)| at).find(|at| {
            is_bounded(&lower, *at, needle.len()) && !is_denied(lower.get(..*at).unwrap_or_default())
        });
        if at.is_some() {
            draft.remark(Topic::Product, name);
        }
    }
    for word in
        text.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '(' | ')' | '"' | '\'' | '/' | '*'))
    {
        let file = stopcode_base::file_name(word.trim_end_matches(['.', ':', '!', '?']));
        let stem = file.len().checked_sub(4).and_then(|end| file.split_at_checked(end));
        let Some((stem, kind)) = stem else { continue };
        let plain =
            (2..=60).contains(&stem.len()) && stem.chars().all(|c| c.is_alphanumeric() || "_-.+".contains(c));
        let no_driver =
            ["pagefile", "swapfile", "hiberfil"].iter().any(|name| stem.eq_ignore_ascii_case(name));
        let inbox = || stopcode_knowledge::driver(file).is_some_and(|driver| driver.inbox);
        if kind.eq_ignore_ascii_case(".sys") && plain && !no_driver && !inbox() {
            draft.remark(Topic::Product, file);
        }
    }
}

fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| is_bounded(text, at, word.len()))
}

/// True if the `length` bytes at `at` are no part of a longer word.
fn is_bounded(text: &str, at: usize, length: usize) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let before = text.get(..at).and_then(|head| head.chars().next_back());
    let behind = text.get(at + length..).and_then(|tail| tail.chars().next());
    !before.is_some_and(word) && !behind.is_some_and(word)
}

/// True if one of the last three words takes back what follows.
fn is_denied(before: &str) -> bool {
    let start = before.len().saturating_sub(60);
    let tail = (start..=before.len()).find_map(|at| before.get(at..)).unwrap_or_default();
    let clause = tail.rsplit(['.', ';', '!', '?']).next().unwrap_or_default();
    clause.split_whitespace().rev().take(3).any(|word| DENIALS.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remarks(text: &str) -> Vec<(Topic, String)> {
        let mut draft = Draft { prose: text.lines().map(str::to_owned).collect(), ..Draft::default() };
        study(&mut draft);
        draft.remarks.into_iter().map(|remark| (remark.topic, remark.text)).collect()
    }

    #[test]
    fn products_are_named() {
        assert_eq!(
            remarks("Kaspersky was also present\non this system."),
            [(Topic::Product, "Kaspersky".into())]
        );
        assert_eq!(remarks("I uninstalled Avast. I have no Norton either."), []);
        assert_eq!(remarks("savagely, nortonian, reset"), []);
        assert_eq!(remarks("It was C:\\x\\foobar99.sys."), [(Topic::Product, "foobar99.sys".into())]);
    }

    #[test]
    fn theories_are_kept_whole() {
        let text = "Hello there. We see that every\nprocessor is in a frozen state (idle). Bye.";
        assert_eq!(
            remarks(text),
            [(Topic::Theory, "We see that every processor is in a frozen state (idle).".into())]
        );
        assert_eq!(remarks("My PC froze and then it was idle."), []);
    }
}
