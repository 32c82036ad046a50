//! A symbol server on this machine, which can misbehave.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How it answers for a file that it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// As it should.
    Plain,
    /// Only compressed.
    Packed,
    /// Somewhere else, as Microsoft's does.
    Redirect,
    /// The connection ends in the middle, and the rest can be asked for.
    CutOnce,
    /// It always ends in the middle, and begins anew each time.
    CutAlways,
    /// It falls silent in the middle, once.
    Stalls,
    /// Busy at first.
    Busy,
    /// Never anything but an error.
    Error,
    /// Round and round.
    Loop,
    /// Some other file.
    Wrong,
    /// Nothing is here.
    Absent,
}

struct Content {
    files: BTreeMap<String, Vec<u8>>,
    manner: Manner,
}

/// Serves until the process ends.
pub(crate) struct Server {
    pub(crate) address: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves these files, by their path below the address.
    pub(crate) fn start(files: &[(String, Vec<u8>)], manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let content = Arc::new(Content { files: files.iter().cloned().collect(), manner });
        let log = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&log);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (content, log) = (Arc::clone(&content), Arc::clone(&written));
                // A client that goes away in the middle is part of the test.
                std::thread::spawn(move || _ = answer(stream, &content, &log));
            }
        });
        Self { address, log }
    }

    /// The paths that were asked for, in order, with the range behind it where one was.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, content: &Content, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap()?;
    let path = first.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
    let mut from = None;
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse::<usize>().ok();
        }
    }
    let before = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(|asked| asked.split(' ').next() == Some(&path)).count();
        log.push(from.map_or_else(|| path.clone(), |from| format!("{path} from {from}")));
        before
    };
    let moved = path.strip_prefix("moved/");
    let wanted = moved.unwrap_or(&path);
    let plain = content.files.get(wanted).cloned();
    let manner = if moved.is_some() { Manner::Plain } else { content.manner };
    let (status, headers, body) = match (manner, plain) {
        (Manner::Packed, plain) => match plain {
            None => match content.files.iter().find(|(name, _)| packed_name(name) == path) {
                Some((name, bytes)) => ("200 OK", String::new(), packed(name, bytes)),
                None => ("404 Not Found", String::new(), Vec::new()),
            },
            Some(_) => ("404 Not Found", String::new(), Vec::new()),
        },
        (Manner::Absent, _) | (_, None) => ("404 Not Found", String::new(), b"no such file".to_vec()),
        (Manner::Redirect, Some(_)) => ("302 Found", format!("Location: /moved/{path}\r\n"), Vec::new()),
        (Manner::Loop, Some(_)) => ("302 Found", format!("Location: /{path}\r\n"), Vec::new()),
        (Manner::Error, Some(_)) => ("500 Oh", String::new(), Vec::new()),
        (Manner::Busy, Some(_)) if before == 0 => ("503 Busy", "Retry-After: 1\r\n".to_owned(), Vec::new()),
        (Manner::Wrong, Some(bytes)) => {
            ("200 OK", String::new(), bytes.iter().map(|byte| byte ^ 0x55).collect())
        }
        (_, Some(bytes)) => match from {
            Some(from) if manner != Manner::CutAlways && from <= bytes.len() => (
                "206 Partial Content",
                format!("Content-Range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len()),
                bytes[from..].to_vec(),
            ),
            _ => ("200 OK", "ETag: \"one\"\r\n".to_owned(), bytes),
        },
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
    let cut = match manner {
        Manner::CutOnce | Manner::Stalls => from.is_none() && before == 0,
        Manner::CutAlways => true,
        _ => false,
    };
    stream.write_all(&body[..if cut { length / 2 } else { length }])?;
    stream.flush()?;
    if cut && manner == Manner::Stalls {
        std::thread::sleep(Duration::from_secs(20));
    }
    Ok(())
}

fn packed_name(name: &str) -> String {
    format!("{}_", &name[..name.len() - 1])
}

fn packed(path: &str, bytes: &[u8]) -> Vec<u8> {
    let mut builder = cab::CabinetBuilder::new();
    builder.add_folder(cab::CompressionType::MsZip).add_file(path.rsplit('/').next().unwrap());
    let mut writer = builder.build(std::io::Cursor::new(Vec::new())).unwrap();
    while let Some(mut file) = writer.next_file().unwrap() {
        file.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}
