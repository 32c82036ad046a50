//! Fetching with a blocking transport, into the stores of a symbol path.

use super::notes::Notes;
use super::{Body, Fetch, FetchError, Head, Limits, Next, Request};
use crate::store::{Store, StoreFile};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Sends requests: the edge of this program towards a network.
pub trait Transport: Send + Sync {
    /// Sends one request and tells `reply` what comes back, piece by piece, until it breaks off.
    ///
    /// # Errors
    /// In words, if there was no answer or it broke off.
    fn get(&self, request: &Request, reply: &mut dyn Reply) -> Result<(), String>;
}

/// Is told an answer.
pub trait Reply {
    /// Its head; `Break` if the body is not wanted.
    fn head(&mut self, head: &Head) -> ControlFlow<()>;
    /// A part of its body; `Break` if no more is wanted.
    fn chunk(&mut self, bytes: &[u8]) -> ControlFlow<()>;
}

/// What happens, for whoever watches.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum FetchEvent<'e> {
    /// A request is sent.
    Asking {
        /// Address.
        url: &'e str,
    },
    /// A part came.
    Received {
        /// The file.
        file: &'e StoreFile,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all, where the server tells.
        of: Option<u64>,
    },
    /// It is tried again later.
    Waiting {
        /// The file.
        file: &'e StoreFile,
        /// After so long.
        time: Duration,
    },
    /// Another process is fetching it.
    Locked {
        /// The file.
        file: &'e StoreFile,
    },
    /// It came.
    Fetched {
        /// The file.
        file: &'e StoreFile,
        /// From this address.
        url: &'e str,
        /// Bytes, unpacked.
        bytes: u64,
    },
    /// No server has it.
    Absent {
        /// The file.
        file: &'e StoreFile,
    },
    /// It could not be had.
    Failed {
        /// The file.
        file: &'e StoreFile,
        /// Why.
        error: &'e FetchError,
    },
}

/// How a fetch ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fetched {
    /// Here it is, and where it is kept: in the nearest store that could be written, else nowhere.
    Have {
        /// Where it lies now.
        path: Option<PathBuf>,
        /// The file.
        bytes: Vec<u8>,
    },
    /// The servers do not have it.
    Absent,
    /// It could not be had.
    Failed(FetchError),
}

/// Watches, and breaks off if it wants.
type Observer = Box<dyn Fn(&FetchEvent<'_>) -> ControlFlow<()> + Send + Sync>;

/// Fetches files for symbol paths. Can be shared between threads.
pub struct Online {
    transport: Box<dyn Transport>,
    observer: Observer,
    limits: Limits,
    /// Servers that did not answer: they are not asked for every further file.
    silent: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for Online {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Online").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Between looks whether another process is done.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Online {
    /// Fetches by `transport`; `observer` is told what happens, and breaks a fetch off by answering `Break`.
    pub fn new(
        transport: impl Transport + 'static,
        limits: Limits,
        observer: impl Fn(&FetchEvent<'_>) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            transport: Box::new(transport),
            observer: Box::new(observer),
            limits,
            silent: Mutex::default(),
        }
    }

    /// Gets a file from one server into the stores before it, the nearest first. One process at a time asks for a file;
    /// what a server did not have is not asked for again for a day.
    pub fn get(&self, file: &StoreFile, server: &str, stores: &[Store]) -> Fetched {
        let notes = stores.first().map(|store| Notes::new(store, file));
        if notes.as_ref().is_some_and(|notes| notes.is_absent(server)) {
            return Fetched::Absent;
        }
        let lock = match notes.as_ref().map_or(Ok(None), |notes| self.lock(notes, file)) {
            Ok(lock) => lock,
            Err(error) => return Fetched::Failed(error),
        };
        // Whoever had the lock before may have brought it.
        if let Some((path, bytes)) =
            stores.iter().find_map(|store| store.find(file, |bytes| file.fits(bytes)))
        {
            return Fetched::Have { path: Some(path), bytes };
        }
        let fetched = self.fetch(file, server);
        match &fetched {
            Fetched::Have { bytes, .. } => {
                if let Some(notes) = &notes {
                    notes.clear_absent();
                }
                // A store that cannot be written is passed over, as WinDbg does; the nearest is told.
                let places: Vec<_> = stores.iter().map(|store| store.put(file, bytes)).collect();
                let path = places.into_iter().find_map(Result::ok);
                drop(lock);
                let Fetched::Have { bytes, .. } = fetched else { return fetched };
                return Fetched::Have { path, bytes };
            }
            Fetched::Absent => {
                if let Some(notes) = &notes {
                    notes.set_absent(server);
                }
            }
            Fetched::Failed(_) => {}
        }
        fetched
    }

    /// The lock, or none where the store cannot hold one.
    fn lock(&self, notes: &Notes, file: &StoreFile) -> Result<Option<std::fs::File>, FetchError> {
        loop {
            match notes.try_lock() {
                Ok(Some(lock)) => return Ok(Some(lock)),
                Ok(None) => {
                    self.tell(&FetchEvent::Locked { file })?;
                    thread::sleep(LOOK_AGAIN);
                }
                Err(_) => return Ok(None),
            }
        }
    }

    fn fetch(&self, file: &StoreFile, server: &str) -> Fetched {
        if self.silent.lock().unwrap_or_else(PoisonError::into_inner).contains(server) {
            let why = "did not answer before and was not asked again".to_owned();
            return Fetched::Failed(FetchError::Unreachable { url: server.to_owned(), why });
        }
        let mut fetch = Fetch::new(file.clone(), &[server.to_owned()], self.limits);
        let done = self.drive(&mut fetch).unwrap_or_else(Fetched::Failed);
        if let Fetched::Failed(FetchError::Unreachable { .. }) = &done {
            self.silent.lock().unwrap_or_else(PoisonError::into_inner).insert(server.to_owned());
        }
        let told = match &done {
            Fetched::Absent => self.tell(&FetchEvent::Absent { file }),
            Fetched::Failed(error) => self.tell(&FetchEvent::Failed { file, error }),
            Fetched::Have { .. } => Ok(()),
        };
        told.map_or_else(Fetched::Failed, |()| done)
    }

    fn drive(&self, fetch: &mut Fetch) -> Result<Fetched, FetchError> {
        loop {
            match fetch.step() {
                Next::Ask(request) => {
                    self.tell(&FetchEvent::Asking { url: &request.url })?;
                    let mut told =
                        Told { online: self, fetch, reading: false, cancelled: false, over: false };
                    let sent = self.transport.get(&request, &mut told);
                    let Told { reading, cancelled, over, .. } = told;
                    match sent {
                        _ if cancelled => return Err(FetchError::Cancelled),
                        // The body was not wanted, and the machine knows what is next.
                        _ if over => {}
                        Ok(()) if reading => fetch.end(),
                        Ok(()) => fetch.broke("no answer"),
                        Err(why) => fetch.broke(&why),
                    }
                }
                Next::Wait(time) => {
                    self.tell(&FetchEvent::Waiting { file: fetch.file(), time })?;
                    thread::sleep(time);
                }
                Next::Have(bytes, url) => {
                    let event =
                        FetchEvent::Fetched { file: fetch.file(), url: &url, bytes: bytes.len() as u64 };
                    self.tell(&event)?;
                    return Ok(Fetched::Have { path: None, bytes });
                }
                Next::Absent => return Ok(Fetched::Absent),
                Next::Failed(error) => return Ok(Fetched::Failed(error)),
            }
        }
    }

    fn tell(&self, event: &FetchEvent<'_>) -> Result<(), FetchError> {
        if (self.observer)(event).is_break() { Err(FetchError::Cancelled) } else { Ok(()) }
    }
}

/// Hands an answer on to the machine.
struct Told<'t> {
    online: &'t Online,
    fetch: &'t mut Fetch,
    reading: bool,
    cancelled: bool,
    over: bool,
}

impl Reply for Told<'_> {
    fn head(&mut self, head: &Head) -> ControlFlow<()> {
        match self.fetch.head(head) {
            Body::Read => {
                self.reading = true;
                ControlFlow::Continue(())
            }
            Body::Skip => {
                self.over = true;
                ControlFlow::Break(())
            }
        }
    }

    fn chunk(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        if !self.fetch.chunk(bytes) {
            self.over = true;
            return ControlFlow::Break(());
        }
        let (bytes, of) = self.fetch.received();
        let event = FetchEvent::Received { file: self.fetch.file(), bytes, of };
        if self.online.tell(&event).is_err() {
            self.cancelled = true;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
