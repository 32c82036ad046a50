//! The mapping, and the guard against SIGBUS.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// A file mapped into memory, read-only.
#[derive(Debug)]
pub struct Map {
    start: NonNull<u8>,
    size: usize,
    slot: &'static Slot,
}

// SAFETY: the mapping is read-only memory that lives as long as this value; it is only read, through `&self`, by
// copying out of it.
unsafe impl Send for Map {}
// SAFETY: as above; reads do not exclude one another.
unsafe impl Sync for Map {}

impl Map {
    /// Maps the first `size` bytes of `file`.
    ///
    /// # Errors
    /// When there is nothing to map, when the system refuses, or when 64 files are mapped already.
    pub fn new(file: &File, size: u64) -> io::Result<Self> {
        let size = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        install_guard()?;
        let slot = Slot::claim().ok_or(io::ErrorKind::ResourceBusy)?;
        let (protection, flags) = (libc::PROT_READ, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the system's choice touches no memory that is in use.
        let start = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, file.as_raw_fd(), 0) };
        let mapped = if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast::<u8>()) };
        let Some(start) = mapped else {
            let error = io::Error::last_os_error();
            slot.release();
            return Err(error);
        };
        // Small reads come from anywhere: what lies around them in the file is not read with them. A mere wish: whether
        // the system heeds it changes no byte.
        // SAFETY: advice for the whole of the mapping made above, which says only how pages are to be read.
        unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_RANDOM) };
        slot.publish(start.as_ptr() as usize, size);
        Ok(Self { start, size, slot })
    }

    /// Copies the bytes from `offset` on into the start of `buffer` and says how many; `None` once pages of the file
    /// have gone, as nothing that was copied can then be trusted.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Option<usize> {
        if self.slot.torn.load(Ordering::Relaxed) {
            return None;
        }
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let count = self.size.saturating_sub(offset).min(buffer.len());
        if count == 0 {
            return Some(0);
        }
        // SAFETY: `offset + count <= size`, so the address is inside the mapping.
        let from = unsafe { self.start.as_ptr().add(offset) };
        // SAFETY: `count` bytes from `from` on are mapped, `buffer` has room for them and, being Rust's own memory,
        // does not overlap them. Where the file has lost them, the guard puts zeros there before the copy goes on.
        unsafe { ptr::copy_nonoverlapping(from, buffer.as_mut_ptr(), count) };
        // The mark is set before the zeros are there, so whoever copied zeros sees it, if the bytes were loaded first.
        fence(Ordering::Acquire);
        (!self.slot.torn.load(Ordering::Relaxed)).then_some(count)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // First, so that the guard never acts on an address that is somebody else's by then.
        self.slot.withdraw();
        // SAFETY: these are the bounds that `mmap` gave, and no reader is left: each borrows `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.size) };
        self.slot.release();
    }
}

/// Files that can be mapped at the same time.
const MOST_MAPS: usize = 64;

/// What the guard knows of one mapping.
#[derive(Debug)]
struct Slot {
    taken: AtomicBool,
    /// Address of the first byte; 0 while there is no mapping.
    start: AtomicUsize,
    end: AtomicUsize,
    /// A page was missing.
    torn: AtomicBool,
}

static SLOTS: [Slot; MOST_MAPS] = [const {
    Slot {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        torn: AtomicBool::new(false),
    }
}; MOST_MAPS];

impl Slot {
    fn claim() -> Option<&'static Self> {
        SLOTS.iter().find(|slot| !slot.taken.swap(true, Ordering::AcqRel))
    }

    fn publish(&self, start: usize, size: usize) {
        self.torn.store(false, Ordering::SeqCst);
        self.end.store(start + size, Ordering::SeqCst);
        self.start.store(start, Ordering::SeqCst);
    }

    fn withdraw(&self) {
        self.start.store(0, Ordering::SeqCst);
        self.end.store(0, Ordering::SeqCst);
    }

    fn release(&self) {
        self.taken.store(false, Ordering::Release);
    }

    fn holds(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::SeqCst);
        start != 0 && (start..self.end.load(Ordering::SeqCst)).contains(&address)
    }
}

/// What handled SIGBUS before the guard; `None` if the guard could not be installed.
static BEFORE: OnceLock<Option<libc::sigaction>> = OnceLock::new();
static INSTALLED: OnceLock<bool> = OnceLock::new();
/// Bytes of a page of this system's.
static PAGE: AtomicUsize = AtomicUsize::new(0x1000);

/// Installs the guard, once for the process.
fn install_guard() -> io::Result<()> {
    let before = BEFORE.get_or_init(|| {
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        PAGE.store(usize::try_from(page).ok()?, Ordering::SeqCst);
        // SAFETY: all zeros is a valid `sigaction`: the default action, no flags.
        let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: asks for the action in force; both pointers are what the call wants.
        let asked = unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut before) };
        (asked == 0).then_some(before)
    });
    let installed = INSTALLED.get_or_init(|| {
        // SAFETY: as above.
        let mut guard: libc::sigaction = unsafe { std::mem::zeroed() };
        guard.sa_sigaction = on_bus_error as *const () as usize;
        guard.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: the handler has the signature that SA_SIGINFO asks for, and does only what a handler may.
        before.is_some() && unsafe { libc::sigaction(libc::SIGBUS, &raw const guard, ptr::null_mut()) } == 0
    });
    if *installed { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// The guard. It runs on the thread that touched the page, in the middle of whatever that did: it takes no lock and
/// allocates nothing.
extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the system hands over a valid record.
    let record = unsafe { &*info };
    // SAFETY: the record of a SIGBUS has an address.
    let address = unsafe { record.si_addr() } as usize;
    let mended = SLOTS.iter().find(|slot| slot.holds(address)).is_some_and(|slot| {
        // Before the zeros are there for any thread to read.
        slot.torn.store(true, Ordering::SeqCst);
        put_zeros(address)
    });
    if !mended {
        hand_on(signal, info, context);
    }
}

/// Puts a page of zeros in place of the one that `address` lies in.
fn put_zeros(address: usize) -> bool {
    let page = PAGE.load(Ordering::SeqCst);
    let place = address & !(page - 1);
    let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: gives this thread's error number, which the interrupted code may be about to look at.
    let error = unsafe { libc::__errno_location() };
    // SAFETY: the pointer is valid for as long as the thread lives.
    let saved = unsafe { *error };
    // SAFETY: the page lies in a mapping of ours, which is only ever read through `Map::read`; a missing page of it
    // becomes one of zeros.
    let put = unsafe { libc::mmap(place as *mut c_void, page, libc::PROT_READ, flags, -1, 0) };
    // SAFETY: as above.
    unsafe { *error = saved };
    put != libc::MAP_FAILED
}

/// Does with a signal that is not ours what would have been done without the guard.
fn hand_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let before = BEFORE.get().and_then(Option::as_ref);
    match before {
        Some(before) if before.sa_sigaction > libc::SIG_IGN => {
            if before.sa_flags & libc::SA_SIGINFO != 0 {
                type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
                // SAFETY: SA_SIGINFO says that the action is a function of this signature.
                let handler = unsafe { std::mem::transmute::<usize, Handler>(before.sa_sigaction) };
                handler(signal, info, context);
            } else {
                type Handler = extern "C" fn(c_int);
                // SAFETY: without SA_SIGINFO the action is a function of this signature.
                let handler = unsafe { std::mem::transmute::<usize, Handler>(before.sa_sigaction) };
                handler(signal);
            }
        }
        // The default, and what cannot be ignored: the access is repeated and ends the process.
        _ => {
            // SAFETY: restoring the default action is always allowed.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}
