use super::*;
use crate::testing::Folder;
use crate::{PdbKey, Store};
use proptest::prelude::*;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

/// The smallest PDB there is: it only says who it is. Padded, so that it can be cut.
fn pdb(key: PdbKey) -> Vec<u8> {
    crate::testing::tiny_pdb(key)
}

const KEY: PdbKey = PdbKey { guid: 0x1234_5678_9abc_def0_1122_3344_5566_7788, age: 3 };
const SERVER: &str = "https://symbols.example/s";

fn file() -> StoreFile {
    StoreFile::pdb("a.pdb", KEY).unwrap()
}

fn fetch(limits: Limits) -> Fetch {
    Fetch::new(file(), &[SERVER.to_owned(), "http://other.example".to_owned()], limits)
}

fn asked(fetch: &mut Fetch) -> Request {
    match fetch.step() {
        Next::Ask(request) => request,
        other => panic!("{other:?}"),
    }
}

fn status(status: u16) -> Head {
    Head { status, ..Head::default() }
}

fn found(length: usize) -> Head {
    Head { status: 200, length: Some(length as u64), validator: Some("\"v1\"".to_owned()), ..Head::default() }
}

#[test]
fn the_plain_file_is_asked_for_first() {
    let mut fetch = fetch(Limits::default());
    let request = asked(&mut fetch);
    let place = "a.pdb/123456789ABCDEF011223344556677883/a.pdb";
    assert_eq!(request, Request { url: format!("{SERVER}/{place}"), from: 0, validator: None });
    let bytes = pdb(KEY);
    assert_eq!(fetch.head(&found(bytes.len())), Body::Read);
    for part in bytes.chunks(100) {
        assert!(fetch.chunk(part));
    }
    fetch.end();
    assert_eq!(fetch.step(), Next::Have(bytes, request.url));
}

#[test]
fn other_spellings_and_servers_follow() {
    let mut fetch = fetch(Limits::default());
    let mut urls = Vec::new();
    while let Next::Ask(request) = fetch.step() {
        urls.push(request.url);
        assert_eq!(fetch.head(&status(404)), Body::Skip);
    }
    let ends: Vec<_> = urls.iter().map(|url| url.rsplit('/').next().unwrap()).collect();
    assert_eq!(ends, ["a.pdb", "a.pd_", "file.ptr", "a.pdb", "a.pd_", "file.ptr"]);
    assert!(urls[3].starts_with("http://other.example/a.pdb/"));
    assert_eq!(fetch.step(), Next::Absent);
}

#[test]
fn a_cut_is_resumed_where_it_was_if_the_file_is_still_the_same() {
    let bytes = pdb(KEY);
    let half = bytes.len() / 2;
    let mut fetch = fetch(Limits::default());
    asked(&mut fetch);
    fetch.head(&found(bytes.len()));
    fetch.chunk(&bytes[..half]);
    fetch.broke("reset");
    assert_eq!(fetch.step(), Next::Wait(Duration::from_millis(500)));
    let request = asked(&mut fetch);
    assert_eq!((request.from, request.validator.as_deref()), (half as u64, Some("\"v1\"")));
    let rest = Head { status: 206, from: Some(half as u64), ..Head::default() };
    assert_eq!(fetch.head(&rest), Body::Read);
    fetch.chunk(&bytes[half..]);
    fetch.end();
    assert!(matches!(fetch.step(), Next::Have(all, _) if all == bytes));
}

#[test]
fn a_file_that_changed_meanwhile_is_begun_again() {
    let bytes = pdb(KEY);
    for answer in [200, 206, 416] {
        let mut fetch = fetch(Limits::default());
        asked(&mut fetch);
        fetch.head(&found(bytes.len()));
        fetch.chunk(b"of another file");
        fetch.broke("reset");
        fetch.step();
        assert_eq!(asked(&mut fetch).from, 15);
        if fetch.head(&Head { status: answer, from: Some(3), ..found(bytes.len()) }) == Body::Skip {
            assert!(matches!(fetch.step(), Next::Wait(_)));
            assert_eq!(asked(&mut fetch).from, 0, "{answer}");
            fetch.head(&found(bytes.len()));
        }
        fetch.chunk(&bytes);
        fetch.end();
        assert!(matches!(fetch.step(), Next::Have(all, _) if all == bytes), "{answer}");
    }
}

#[test]
fn a_server_that_always_cuts_at_the_same_place_is_left() {
    let bytes = pdb(KEY);
    let mut fetch = fetch(Limits::default());
    let mut asked_for = 0;
    while asked(&mut fetch).url.starts_with("https://") {
        asked_for += 1;
        fetch.head(&found(bytes.len()));
        fetch.chunk(&bytes[..700]);
        fetch.broke("reset");
        if fetch.attempts > 0 {
            fetch.step();
        }
    }
    assert_eq!(asked_for, 4);
}

#[test]
fn without_a_validator_nothing_is_resumed() {
    let mut fetch = fetch(Limits::default());
    asked(&mut fetch);
    fetch.head(&Head { validator: None, ..found(10) });
    fetch.chunk(b"abc");
    fetch.broke("reset");
    fetch.step();
    assert_eq!(asked(&mut fetch).from, 0);
}

#[test]
fn a_busy_server_is_waited_for_and_a_dead_one_is_left() {
    let mut fetch = fetch(Limits::default());
    asked(&mut fetch);
    fetch.head(&Head { retry_after: Some(Duration::from_secs(7)), ..status(503) });
    assert_eq!(fetch.step(), Next::Wait(Duration::from_secs(7)));
    let mut waits = Vec::new();
    loop {
        if asked(&mut fetch).url.starts_with("http://other") {
            break;
        }
        fetch.broke("no route");
        match fetch.step() {
            Next::Wait(time) => waits.push(time.as_millis()),
            Next::Ask(request) => {
                assert!(request.url.starts_with("http://other"));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(waits, [1000, 2000]);
    for _ in 0..3 {
        fetch.head(&status(404));
        fetch.step();
    }
    // That one server has no such file does not hide that the other did not answer.
    assert!(matches!(fetch.step(), Next::Failed(FetchError::Unreachable { why, .. }) if why == "no route"));
}

#[test]
fn a_server_that_asks_for_too_much_patience_is_left() {
    let mut fetch = fetch(Limits::default());
    asked(&mut fetch);
    fetch.head(&Head { retry_after: Some(Duration::from_hours(1)), ..status(429) });
    assert!(asked(&mut fetch).url.starts_with("http://other"));
}

#[test]
fn redirects_are_followed_but_not_in_circles_nor_out_of_encryption() {
    let to = |location: &str| Head { location: Some(location.to_owned()), ..status(302) };
    let mut circle = fetch(Limits::default());
    for _ in 0..=5 {
        assert!(asked(&mut circle).url.starts_with("https://"));
        circle.head(&to("/again"));
    }
    assert!(asked(&mut circle).url.starts_with("http://other"));
    let mut downgraded = fetch(Limits::default());
    asked(&mut downgraded);
    downgraded.head(&to("http://blob.example/x"));
    assert!(asked(&mut downgraded).url.starts_with("http://other"));
    let mut good = fetch(Limits::default());
    asked(&mut good);
    good.head(&to("https://blob.example/x"));
    assert_eq!(asked(&mut good).url, "https://blob.example/x");
}

#[test]
fn what_is_too_large_is_not_read() {
    let limits = Limits { file: 100, ..Limits::default() };
    let mut announced = fetch(limits);
    asked(&mut announced);
    assert_eq!(announced.head(&found(101)), Body::Skip);
    let mut endless = fetch(limits);
    asked(&mut endless);
    assert_eq!(endless.head(&status(200)), Body::Read);
    assert!(endless.chunk(&[0; 100]));
    assert!(!endless.chunk(&[0]));
    assert!(asked(&mut endless).url.starts_with("http://other"));
}

#[test]
fn another_file_is_not_taken() {
    let mut fetch = fetch(Limits::default());
    for url in ["a.pdb", "a.pd_"] {
        assert!(asked(&mut fetch).url.ends_with(url));
        let other = pdb(PdbKey { age: 4, ..KEY });
        fetch.head(&found(other.len()));
        fetch.chunk(&other);
        fetch.end();
    }
    for _ in 0..4 {
        asked(&mut fetch);
        fetch.head(&status(404));
    }
    assert!(matches!(fetch.step(), Next::Failed(FetchError::WrongFile { .. })));
}

#[test]
fn a_pointer_to_an_address_is_followed_and_one_to_a_machine_is_not() {
    for (text, leads) in [
        ("PATH:https://b.example/x.pdb\r\n", Some("https://b.example/x.pdb")),
        (r"PATH:\\server\share\a.pdb", None),
        ("PATH:/etc/passwd", None),
        ("MSG: not here", None),
        ("", None),
    ] {
        let mut fetch = fetch(Limits::default());
        for _ in 0..2 {
            asked(&mut fetch);
            fetch.head(&status(404));
        }
        asked(&mut fetch);
        fetch.head(&status(200));
        fetch.chunk(text.as_bytes());
        fetch.end();
        let next = asked(&mut fetch).url;
        assert_eq!(
            leads.unwrap_or("http://other.example/a.pdb"),
            &next[..leads.map_or(26, str::len)],
            "{text}"
        );
    }
}

/// Answers as a script says, and counts.
struct Script {
    answers: Mutex<Vec<(Head, Vec<u8>)>>,
    urls: Arc<Mutex<Vec<String>>>,
}

impl Transport for Script {
    fn get(&self, request: &Request, reply: &mut dyn Reply) -> Result<(), String> {
        self.urls.lock().unwrap().push(request.url.clone());
        let Some((head, body)) = self.answers.lock().unwrap().pop() else { return Err("nobody".to_owned()) };
        if reply.head(&head).is_continue() {
            _ = reply.chunk(&body);
        }
        Ok(())
    }
}

fn online(answers: Vec<(Head, Vec<u8>)>) -> (Online, Arc<Mutex<Vec<String>>>) {
    let urls = Arc::new(Mutex::new(Vec::new()));
    let script = Script { answers: Mutex::new(answers), urls: Arc::clone(&urls) };
    let limits = Limits { backoff: Duration::ZERO, ..Limits::default() };
    (Online::new(script, limits, |_| ControlFlow::Continue(())), urls)
}

#[test]
fn what_comes_is_kept_in_every_store() {
    let folder = Folder::new("online");
    let stores = [Store::new(folder.0.join("near")), Store::new(folder.0.join("far"))];
    let bytes = pdb(KEY);
    let (online, urls) = online(vec![(found(bytes.len()), bytes.clone())]);
    let near = stores[0].place_of(&file());
    assert_eq!(
        online.get(&file(), SERVER, &stores),
        Fetched::Have { path: Some(near.clone()), bytes: bytes.clone() }
    );
    assert_eq!(std::fs::read(stores[1].place_of(&file())).unwrap(), bytes);
    // The second time nobody is asked.
    assert!(
        matches!(online.get(&file(), SERVER, &stores), Fetched::Have { path: Some(path), .. } if path == near)
    );
    assert_eq!(urls.lock().unwrap().len(), 1);
}

#[test]
fn what_is_absent_is_not_asked_for_again_and_a_silent_server_is_left_alone() {
    let folder = Folder::new("absent");
    let stores = [Store::new(&folder.0)];
    let (online, urls) = online(vec![(status(404), vec![]); 3]);
    assert_eq!(online.get(&file(), SERVER, &stores), Fetched::Absent);
    assert_eq!(online.get(&file(), SERVER, &stores), Fetched::Absent);
    assert_eq!(urls.lock().unwrap().len(), 3);
    // Another server may have it, and that one has not does not make the first forgotten.
    let second = "https://second.example";
    let notes = notes::Notes::new(&stores[0], &file());
    assert!(!notes.is_absent(second));
    notes.set_absent(second);
    assert!(notes.is_absent(second) && notes.is_absent(SERVER));
    // This one does not answer: that is no absence, and is not noted as one.
    let other = "https://silent.example";
    assert!(matches!(online.get(&file(), other, &stores), Fetched::Failed(FetchError::Unreachable { .. })));
    assert_eq!(urls.lock().unwrap().len(), 7);
    assert!(matches!(online.get(&file(), other, &stores), Fetched::Failed(FetchError::Unreachable { .. })));
    assert_eq!(urls.lock().unwrap().len(), 7);
}

#[test]
fn whoever_watches_can_break_it_off() {
    let bytes = pdb(KEY);
    let script = Script { answers: Mutex::new(vec![(found(bytes.len()), bytes)]), urls: Arc::default() };
    let stop = |event: &FetchEvent<'_>| match event {
        FetchEvent::Received { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let folder = Folder::new("cancel");
    let online = Online::new(script, Limits::default(), stop);
    let stores = [Store::new(&folder.0)];
    assert_eq!(online.get(&file(), SERVER, &stores), Fetched::Failed(FetchError::Cancelled));
    assert!(!folder.0.join("a.pdb").exists());
}

proptest! {
    /// Whatever servers answer, it ends, with a bounded number of requests and never with a file that is another.
    #[test]
    fn it_always_ends(
        answers in prop::collection::vec((any::<u8>(), any::<u16>(), prop::option::of(0..2000u64)), 1..30),
    ) {
        let good = pdb(KEY);
        let mut fetch = fetch(Limits { file: 1 << 20, ..Limits::default() });
        let mut requests = 0;
        let mut answers = answers.into_iter().cycle();
        loop {
            match fetch.step() {
                Next::Ask(request) => {
                    requests += 1;
                    prop_assert!(requests <= 400);
                    let (kind, cut, from) = answers.next().unwrap();
                    let code = [200, 206, 301, 302, 404, 416, 429, 500, 403, 200, 206, 200][kind as usize % 12];
                    let locations = ["/x", "https://c.example/y", "http://d.example", "", "z"];
                    let head = Head {
                        status: code,
                        length: from,
                        from: if kind > 100 { Some(request.from) } else { from },
                        validator: (kind % 3 == 0).then(|| "v".to_owned()),
                        location: Some(locations[cut as usize % 5].to_owned()),
                        retry_after: (kind % 5 == 0).then_some(Duration::from_secs(kind.into())),
                    };
                    if fetch.head(&head) == Body::Read {
                        let start = (request.from as usize).min(good.len());
                        let end = (start + cut as usize % 900).min(good.len());
                        let go_on = fetch.chunk(&good[start..end]);
                        if go_on && kind & 1 == 0 { fetch.end() } else if go_on { fetch.broke("cut") }
                    }
                }
                Next::Wait(time) => prop_assert!(time <= LONGEST_WAIT),
                Next::Have(bytes, _) => {
                    prop_assert_eq!(bytes, good);
                    break;
                }
                Next::Absent | Next::Failed(_) => break,
            }
        }
    }
}
