//! Getting one file from symbol servers, without touching a network.
//!
//! [`Fetch`] is a state machine: it says what to ask ([`Next::Ask`]), is told what came back, and decides on spellings,
//! redirects, retries with back-off, resuming after a cut, size limits, and whether what came is the file that was
//! wanted. Whoever holds it does the input and output: a blocking client on a desktop ([`Online`]), a promise in a
//! browser.
//!
//! Protocol: Microsoft's "HTTP symbol stores" and "SymStore commands"; ranges and redirects as in RFC 9110.

mod location;
mod notes;
mod online;

pub use online::{FetchEvent, Fetched, Online, Reply, Transport};

use crate::store::{MAX_FILE, StoreFile, unpack_cab};
use location::redirected;
use std::time::Duration;

/// How much patience and room there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Larger files are refused, in bytes, packed or unpacked.
    pub file: u64,
    /// Tries of one address that bring nothing new.
    pub attempts: u32,
    /// Wait before the second try; doubled before each further one.
    pub backoff: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file: MAX_FILE, attempts: 4, backoff: Duration::from_millis(500) }
    }
}

/// Redirects that are followed for one request; Microsoft's server needs one.
const REDIRECTS: u32 = 5;
/// Requests for one file at one server, whatever each of them brings: a server may cut after every byte.
const REQUESTS: u32 = 40;
/// A server may ask us to wait this long, not longer.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// Back-off is not doubled beyond this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(8);

/// A request to send: `GET`, with `Range: bytes=FROM-` and `If-Range: VALIDATOR` where `from` is not 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Absolute address, `http` or `https`. Redirects must not be followed by whoever sends it.
    pub url: String,
    /// First byte that is wanted.
    pub from: u64,
    /// Entity tag or date of what the bytes before `from` were part of.
    pub validator: Option<String>,
}

/// What an answer begins with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// `Content-Length`.
    pub length: Option<u64>,
    /// First byte in `Content-Range`.
    pub from: Option<u64>,
    /// A strong `ETag`, else `Last-Modified`.
    pub validator: Option<String>,
    /// `Location`.
    pub location: Option<String>,
    /// `Retry-After`, where it is a number of seconds.
    pub retry_after: Option<Duration>,
}

/// What to do with an answer's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    /// Hand it to [`Fetch::chunk`], then call [`Fetch::end`].
    Read,
    /// Drop it, and ask for the next step.
    Skip,
}

/// The next step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Send this, and tell [`Fetch::head`] what comes back, or [`Fetch::broke`] that nothing does.
    Ask(Request),
    /// Wait this long, then ask for the next step again.
    Wait(Duration),
    /// The file, unpacked and checked, and the address it came from.
    Have(Vec<u8>, String),
    /// The servers were asked and none has it.
    Absent,
    /// It could not be had, and why; another time it may.
    Failed(FetchError),
}

/// Why a file could not be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FetchError {
    /// No answer, or one that broke off, as often as it was tried.
    #[error("{url}: {why}")]
    Unreachable {
        /// Address.
        url: String,
        /// What the transport or the status says.
        why: String,
    },
    /// An answer that is neither the file nor its absence.
    #[error("{url}: the server answered {status}")]
    Status {
        /// Address.
        url: String,
        /// Status code.
        status: u16,
    },
    /// The answer is another file, or a damaged one.
    #[error("{url}: what came is not the file that was asked for")]
    WrongFile {
        /// Address.
        url: String,
    },
    /// More than [`Limits::file`].
    #[error("{url}: larger than {limit} bytes")]
    TooLarge {
        /// Address.
        url: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// Redirected in a circle, to no address, or from `https` to `http`.
    #[error("{url}: redirected to {to}, which is not followed")]
    Redirect {
        /// Address.
        url: String,
        /// Where to.
        to: String,
    },
    /// Whoever watched broke it off.
    #[error("cancelled")]
    Cancelled,
}

/// How a server may keep a file, in the order it is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spelling {
    Plain,
    /// A cabinet, `.pd_`.
    Packed,
    /// A text that names another place.
    Pointer,
    /// What such a text named.
    Pointed,
}

impl Spelling {
    const fn after(self) -> Option<Self> {
        match self {
            Self::Plain => Some(Self::Packed),
            Self::Packed => Some(Self::Pointer),
            Self::Pointer | Self::Pointed => None,
        }
    }
}

/// One file, being fetched.
#[derive(Debug)]
pub struct Fetch {
    file: StoreFile,
    limits: Limits,
    /// Those still to be asked, the next one last.
    servers: Vec<String>,
    /// The one being asked.
    server: String,
    spelling: Spelling,
    /// What is asked for, before redirects.
    origin: String,
    url: String,
    redirects: u32,
    /// Tries in a row that brought nothing.
    attempts: u32,
    /// Requests to this server.
    requests: u32,
    body: Vec<u8>,
    /// The most bytes that any try of this address has brought.
    most: usize,
    /// Length of the whole, where told.
    length: Option<u64>,
    validator: Option<String>,
    next: Next,
    /// The first trouble: told if no other server has the file.
    trouble: Option<FetchError>,
}

impl Fetch {
    /// Will fetch `file` from the first of `servers` that has it.
    pub fn new(file: StoreFile, servers: &[String], limits: Limits) -> Self {
        let mut fetch = Self {
            file,
            limits,
            servers: servers.iter().rev().cloned().collect(),
            server: String::new(),
            spelling: Spelling::Plain,
            origin: String::new(),
            url: String::new(),
            redirects: 0,
            attempts: 0,
            requests: 0,
            body: Vec::new(),
            most: 0,
            length: None,
            validator: None,
            next: Next::Absent,
            trouble: None,
        };
        fetch.next_server();
        fetch
    }

    /// The file that is being fetched.
    pub fn file(&self) -> &StoreFile {
        &self.file
    }

    /// Bytes that have come so far, and how many there will be where the server tells.
    pub fn received(&self) -> (u64, Option<u64>) {
        (self.body.len() as u64, self.length)
    }

    /// The next step. After [`Next::Have`], [`Next::Absent`] and [`Next::Failed`] there is no other.
    pub fn step(&mut self) -> Next {
        match &mut self.next {
            Next::Wait(time) => {
                let time = *time;
                self.next = self.request();
                Next::Wait(time)
            }
            Next::Ask(request) => {
                self.requests += 1;
                Next::Ask(request.clone())
            }
            Next::Have(bytes, url) => Next::Have(std::mem::take(bytes), url.clone()),
            done => done.clone(),
        }
    }

    /// An answer begins.
    pub fn head(&mut self, head: &Head) -> Body {
        match head.status {
            200 => {
                self.restart();
                self.length = head.length;
                self.validator.clone_from(&head.validator);
                if head.length.is_some_and(|length| length > self.limits.file) {
                    self.too_large();
                    return Body::Skip;
                }
                return Body::Read;
            }
            206 if head.from == Some(self.body.len() as u64) => return Body::Read,
            // A range that was not asked for, or one beyond the end: the file is another by now.
            206 | 416 => {
                self.restart();
                self.retry(&format!("the server answered {}", head.status), None);
            }
            301 | 302 | 303 | 307 | 308 => {
                self.redirect(head.location.as_deref().unwrap_or_default());
            }
            404 | 410 => self.not_here(),
            408 | 429 | 500..=599 => {
                self.retry(&format!("the server answered {}", head.status), head.retry_after);
            }
            status => {
                self.remember(FetchError::Status { url: self.url.clone(), status });
                self.next_server();
            }
        }
        Body::Skip
    }

    /// A part of the body. False if no more of it is wanted: then ask for the next step.
    pub fn chunk(&mut self, bytes: &[u8]) -> bool {
        if self.body.len().saturating_add(bytes.len()) as u64 > self.limits.file {
            self.too_large();
            return false;
        }
        self.body.extend_from_slice(bytes);
        // Only what is new is progress: a server may cut at the same place each time, and not know ranges.
        if self.body.len() > self.most {
            self.most = self.body.len();
            self.attempts = 0;
        }
        true
    }

    /// The body ended as it should.
    pub fn end(&mut self) {
        if self.length.is_some_and(|length| length > self.body.len() as u64) {
            return self.broke("the answer is shorter than announced");
        }
        let bytes = std::mem::take(&mut self.body);
        self.restart();
        match self.spelling {
            Spelling::Plain | Spelling::Pointed => self.came(bytes),
            Spelling::Packed => {
                let unpacked = unpack_cab(&bytes, self.limits.file).unwrap_or_default();
                self.came(unpacked);
            }
            Spelling::Pointer => self.pointed(&bytes),
        }
    }

    /// The connection broke, or there was none.
    pub fn broke(&mut self, why: &str) {
        if self.validator.is_none() {
            // Nothing tells whether the rest would be of the same file.
            self.restart();
        }
        self.retry(why, None);
    }

    fn came(&mut self, bytes: Vec<u8>) {
        if self.file.fits(&bytes) {
            self.next = Next::Have(bytes, self.url.clone());
        } else {
            self.remember(FetchError::WrongFile { url: self.url.clone() });
            self.not_here();
        }
    }

    /// `PATH:` and an address is followed; a path of some other machine is not, and `MSG:` says there is none.
    fn pointed(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        match text.trim().strip_prefix("PATH:").map(str::trim) {
            Some(to) if to.starts_with("https://") || to.starts_with("http://") => {
                self.spelling = Spelling::Pointed;
                if self.redirect(to) {
                    self.origin.clone_from(&self.url);
                }
            }
            _ => self.not_here(),
        }
    }

    /// True if it is followed.
    fn redirect(&mut self, location: &str) -> bool {
        let to = redirected(&self.url, location);
        self.redirects += 1;
        match to {
            Some(to) if self.redirects <= REDIRECTS && self.requests < REQUESTS => {
                self.url = to;
                self.next = self.request();
                true
            }
            _ => {
                let to = stopcode_base::visible(location);
                self.remember(FetchError::Redirect { url: self.url.clone(), to });
                self.next_server();
                false
            }
        }
    }

    fn retry(&mut self, why: &str, after: Option<Duration>) {
        self.attempts += 1;
        let long = after.is_some_and(|after| after > LONGEST_WAIT);
        if self.attempts >= self.limits.attempts || self.requests >= REQUESTS || long {
            self.remember(FetchError::Unreachable { url: self.url.clone(), why: why.to_owned() });
            return self.next_server();
        }
        let doubled = 1u32 << (self.attempts - 1).min(16);
        let backoff = self.limits.backoff.saturating_mul(doubled).min(LONGEST_BACKOFF);
        // Where it was redirected to may have been good for one request only.
        self.url.clone_from(&self.origin);
        self.redirects = 0;
        self.next = Next::Wait(after.unwrap_or(backoff).max(backoff));
    }

    fn too_large(&mut self) {
        self.remember(FetchError::TooLarge { url: self.url.clone(), limit: self.limits.file });
        self.next_server();
    }

    /// This server does not keep it under this spelling.
    fn not_here(&mut self) {
        let Some(spelling) = self.spelling.after().filter(|_| self.requests < REQUESTS) else {
            return self.next_server();
        };
        self.start(spelling);
    }

    fn next_server(&mut self) {
        let Some(server) = self.servers.pop() else {
            self.body = Vec::new();
            self.next = self.trouble.take().map_or(Next::Absent, Next::Failed);
            return;
        };
        self.server = server;
        self.requests = 0;
        self.start(Spelling::Plain);
    }

    fn start(&mut self, spelling: Spelling) {
        self.spelling = spelling;
        self.origin = self.address();
        self.url.clone_from(&self.origin);
        self.redirects = 0;
        self.attempts = 0;
        self.most = 0;
        self.restart();
        self.next = self.request();
    }

    fn restart(&mut self) {
        self.body = Vec::new();
        self.length = None;
        self.validator = None;
    }

    fn address(&self) -> String {
        let name = match self.spelling {
            Spelling::Packed => self.file.compressed_name(),
            Spelling::Pointer => "file.ptr".to_owned(),
            Spelling::Plain | Spelling::Pointed => self.file.name().to_owned(),
        };
        format!("{}/{}", self.server.trim_end_matches('/'), self.file.url_path(&name))
    }

    fn request(&self) -> Next {
        let from = self.body.len() as u64;
        let validator = self.validator.clone().filter(|_| from > 0);
        Next::Ask(Request { url: self.url.clone(), from, validator })
    }

    fn remember(&mut self, trouble: FetchError) {
        self.trouble.get_or_insert(trouble);
    }
}

#[cfg(test)]
mod tests;
