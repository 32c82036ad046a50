//! The only place that opens connections: symbol servers, where `--online` or `symbols fetch` asks for them.

use clap::Args;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use stopcode_symbols::{FetchEvent, Online};

/// Variables that symbol paths stand in, as other debuggers read them.
const VARIABLES: [&str; 3] = ["_NT_SYMBOL_PATH", "_NT_ALT_SYMBOL_PATH", "_NT_EXECUTABLE_IMAGE_PATH"];

/// Where to look for symbols: what was given, else what the environment says.
pub(crate) fn symbol_paths(given: &[PathBuf]) -> Vec<PathBuf> {
    if !given.is_empty() {
        return given.to_vec();
    }
    let set = VARIABLES.iter().filter_map(std::env::var_os);
    set.filter(|value| !value.is_empty()).map(PathBuf::from).collect()
}

/// How patient to be with a network.
#[derive(Args, Clone, Copy)]
pub(crate) struct Patience {
    /// Give a server up that says nothing for so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
}

/// What became of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Came.
    Fetched,
    /// No server has it.
    Absent,
    /// And why.
    Failed(String),
}

/// What happened, file by file, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(String, Outcome)>>>);

impl Log {
    /// What there is since the last call.
    pub(crate) fn take(&self) -> Vec<(String, Outcome)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, file: &stopcode_symbols::StoreFile, outcome: Outcome) {
        let name = format!("{}/{}", file.name(), file.key());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((name, outcome));
    }
}

/// Notes each outcome and shows on a terminal what is going on.
fn watch(log: Log) -> impl Fn(&FetchEvent<'_>) -> ControlFlow<()> + Send + Sync {
    let progress = crate::progress::Progress::new();
    move |event| {
        let mut line = String::new();
        match event {
            FetchEvent::Fetched { file, .. } => log.add(file, Outcome::Fetched),
            FetchEvent::Absent { file } => log.add(file, Outcome::Absent),
            FetchEvent::Failed { file, error } => log.add(file, Outcome::Failed(error.to_string())),
            FetchEvent::Received { file, bytes, of } => {
                _ = write!(line, "{}: {:.1}", file.name(), mib(*bytes));
                if let Some(of) = of {
                    _ = write!(line, " of {:.1}", mib(*of));
                }
                line += " MiB";
            }
            FetchEvent::Waiting { file, time } => {
                _ = write!(line, "{}: tried again in {} s", file.name(), time.as_secs().max(1));
            }
            FetchEvent::Locked { file } => {
                _ = write!(line, "{}: waiting for another process that fetches it", file.name());
            }
            _ => {}
        }
        if line.is_empty() {
            progress.clear();
        } else {
            progress.line(&line);
        }
        ControlFlow::Continue(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A client, or why there is none.
#[cfg_attr(
    feature = "online",
    expect(clippy::unnecessary_wraps, reason = "without the feature there is none")
)]
pub(crate) fn online(patience: Patience, log: Log) -> Result<Arc<Online>, String> {
    #[cfg(feature = "online")]
    {
        let transport = client::Client::new(patience);
        let limits = stopcode_symbols::Limits::default();
        Ok(Arc::new(Online::new(transport, limits, watch(log))))
    }
    #[cfg(not(feature = "online"))]
    {
        _ = (patience, log, watch);
        Err("this stopcode was built without a network client (feature `online`)".to_owned())
    }
}

#[cfg(feature = "online")]
mod client {
    //! HTTP by ureq: blocking, with the system's proxy and certificates.

    use super::Patience;
    use std::io::Read;
    use std::sync::Arc;
    use std::time::Duration;
    use stopcode_symbols::{Head, Reply, Request, Transport};
    use ureq::Agent;
    use ureq::http::HeaderMap;
    use ureq::tls::{RootCerts, TlsConfig};

    /// A connection that says nothing for so long is given up even where the user is more patient with answers.
    const CONNECT: Duration = Duration::from_secs(15);
    /// Read at once.
    const CHUNK: usize = 64 << 10;

    pub(super) struct Client(Agent);

    impl Client {
        pub(super) fn new(patience: Patience) -> Self {
            let patience = Duration::from_secs(patience.timeout);
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::PlatformVerifier)
                .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
            let config = Agent::config_builder()
                .http_status_as_error(false)
                // Redirects are followed by the fetch itself, which has to know where an answer comes from.
                .max_redirects(0)
                .max_redirects_will_error(false)
                // Microsoft's server answers those that call themselves a debugger.
                .user_agent(concat!(
                    "Microsoft-Symbol-Server/10.0.0.0 (stopcode/",
                    env!("CARGO_PKG_VERSION"),
                    ")"
                ))
                .timeout_connect(Some(patience.min(CONNECT)))
                .timeout_recv_response(Some(patience))
                .timeout_per_read(Some(patience))
                .tls_config(tls.build())
                .build();
            Self(config.into())
        }
    }

    impl Transport for Client {
        fn get(&self, request: &Request, reply: &mut dyn Reply) -> Result<(), String> {
            // Packed answers could not be resumed at a byte of the file.
            let mut asked = self.0.get(&request.url).header("Accept-Encoding", "identity");
            if request.from > 0 {
                asked = asked.header("Range", format!("bytes={}-", request.from));
                if let Some(validator) = &request.validator {
                    asked = asked.header("If-Range", validator);
                }
            }
            let answer = asked.call().map_err(|error| error.to_string())?;
            let (parts, body) = answer.into_parts();
            if reply.head(&head(parts.status.as_u16(), &parts.headers)).is_break() {
                return Ok(());
            }
            let mut body = body.into_reader();
            let mut chunk = vec![0; CHUNK];
            loop {
                let read = body.read(&mut chunk).map_err(|error| error.to_string())?;
                let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
                if reply.chunk(bytes).is_break() {
                    return Ok(());
                }
            }
        }
    }

    fn head(status: u16, headers: &HeaderMap) -> Head {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let number = |name: &str| text(name)?.parse::<u64>().ok();
        let range = text("content-range").and_then(|range| range.strip_prefix("bytes "));
        // A weak tag says "much the same", which is not enough to put two halves together.
        let strong = text("etag").filter(|tag| !tag.starts_with("W/"));
        Head {
            status,
            length: number("content-length"),
            from: range.and_then(|range| range.split('-').next()?.trim().parse().ok()),
            validator: strong.or_else(|| text("last-modified")).map(str::to_owned),
            location: text("location").map(str::to_owned),
            retry_after: number("retry-after").map(Duration::from_secs),
        }
    }
}
