//! Archives: what is in them, unpacked within limits.
//!
//! Sizes that an archive states are claims. Reading stops at the limits all the same, and a member that does not fit is
//! named instead of unpacked. An archive inside an archive is opened, one inside that is not.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek};
use std::path::Path;
use stopcode_base::{Problem, Severity, visible};

/// A member, a text or standard input is read up to this size.
pub(crate) const MOST_BYTES: u64 = 512 << 20;
/// All members of one archive together.
const MOST_ARCHIVE_BYTES: u64 = 4 << 30;
/// Members of an archive that must be unpacked from its start on, together: they are held at once.
const MOST_HELD_BYTES: u64 = 512 << 20;
/// Members of one archive.
const MOST_MEMBERS: usize = 100_000;
/// A member may be this many times as large as the whole archive, beyond what is harmless anyway: a dump of nothing
/// but zeros packs about so well.
const MOST_RATIO: u64 = 2000;
const HARMLESS: u64 = 64 << 20;
/// Memory that a decoder may take, in KiB.
const MOST_DECODER_KIB: u32 = 256 << 10;
/// Bytes that a cabinet may make us unpack over and over: each of its files is unpacked from the start of its folder.
const MOST_CABINET_WORK: u64 = 4 << 30;

/// A format of archives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    Zip,
    Cabinet,
    Gzip,
    Xz,
    SevenZip,
}

impl Format {
    /// What a file that starts with `head` is.
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        const SIGNATURES: [(&[u8], Format); 5] = [
            (b"PK\x03\x04", Format::Zip),
            (b"MSCF\0\0\0\0", Format::Cabinet),
            (b"\x1f\x8b\x08", Format::Gzip),
            (b"\xfd7zXZ\0", Format::Xz),
            (b"7z\xbc\xaf\x27\x1c", Format::SevenZip),
        ];
        SIGNATURES.iter().find_map(|(signature, format)| head.starts_with(signature).then_some(*format))
    }

    pub(crate) fn of_file(path: &Path) -> Option<Self> {
        // To open a pipe would wait for its writer.
        if !path.is_file() {
            return None;
        }
        let mut head = Vec::new();
        File::open(path).ok()?.take(8).read_to_end(&mut head).ok()?;
        Self::of(&head)
    }
}

/// Extensions of archives.
pub(crate) const EXTENSIONS: [&str; 5] = ["zip", "cab", "gz", "xz", "7z"];

/// One member.
pub(crate) struct Member {
    /// Its own name, made visible.
    pub(crate) name: String,
    /// The size that the archive states, or what was unpacked.
    pub(crate) size: u64,
    pub(crate) content: Result<Vec<u8>, Problem>,
}

/// A zip archive's members, not yet unpacked: each can be reached by itself.
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) size: u64,
    /// Which one, or why it is not unpacked.
    pub(crate) index: Result<usize, Problem>,
}

/// The wanted members of the zip archive at `path`.
pub(crate) fn list_zip(path: &Path) -> Result<Vec<Listed>, Problem> {
    let file = File::open(path).map_err(damaged)?;
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let mut archive = zip::ZipArchive::new(file).map_err(damaged)?;
    Ok(listed(&mut archive, &mut Limits::new(size, MOST_ARCHIVE_BYTES)))
}

/// The bytes of member `index` of the zip archive at `path`.
pub(crate) fn unpack_zip(path: &Path, index: usize, size: u64) -> Result<Vec<u8>, Problem> {
    let mut archive = zip::ZipArchive::new(File::open(path).map_err(damaged)?).map_err(damaged)?;
    zip_member(&mut archive, index, size)
}

/// The wanted members of the archive at `path`.
pub(crate) fn unpack_file(format: Format, path: &Path) -> Result<Vec<Member>, Problem> {
    let file = File::open(path).map_err(damaged)?;
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    unpack(format, io::BufReader::new(file), size, &stem)
}

/// The wanted members of an archive that is a member itself, called `name`.
pub(crate) fn unpack_bytes(format: Format, bytes: Vec<u8>, name: &str) -> Result<Vec<Member>, Problem> {
    let size = bytes.len() as u64;
    let stem =
        Path::new(name).file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    unpack(format, Cursor::new(bytes), size, &stem)
}

fn unpack(
    format: Format,
    mut source: impl Read + Seek,
    packed: u64,
    stem: &str,
) -> Result<Vec<Member>, Problem> {
    let mut limits = Limits::new(packed, MOST_HELD_BYTES);
    match format {
        Format::Zip => {
            let mut archive = zip::ZipArchive::new(source).map_err(damaged)?;
            let listed = listed(&mut archive, &mut limits);
            let unpacked = listed.into_iter().map(|member| Member {
                content: member.index.and_then(|index| zip_member(&mut archive, index, member.size)),
                name: member.name,
                size: member.size,
            });
            Ok(unpacked.collect())
        }
        Format::Cabinet => cabinet(source, &mut limits),
        Format::SevenZip => seven_zip(&mut source, &mut limits),
        // Several streams one after another are one file, as gzip and xz have it.
        Format::Gzip => Ok(vec![only(stem, &mut flate2::read::MultiGzDecoder::new(source), &limits)]),
        Format::Xz => {
            let mut reader = lzma_rust2::XzReader::new_mem_limit(source, true, MOST_DECODER_KIB);
            Ok(vec![only(stem, &mut reader, &limits)])
        }
    }
}

/// What is left to unpack of one archive.
struct Limits {
    /// Of one member.
    member: u64,
    /// Of all that follow.
    total: u64,
}

impl Limits {
    fn new(packed: u64, total: u64) -> Self {
        let member = MOST_BYTES.min(packed.saturating_mul(MOST_RATIO).max(HARMLESS));
        Self { member, total }
    }

    /// Takes a member of `size` bytes, or says why not.
    fn take(&mut self, size: u64) -> Result<(), Problem> {
        if size > self.member || size > self.total {
            return Err(too_large(&format!("a member of {size} bytes is more")));
        }
        self.total -= size;
        Ok(())
    }
}

fn listed<R: Read + Seek>(archive: &mut zip::ZipArchive<R>, limits: &mut Limits) -> Vec<Listed> {
    let mut members = Vec::new();
    for index in 0..archive.len().min(MOST_MEMBERS) {
        let Ok(member) = archive.by_index_raw(index) else { continue };
        let name = member.name().map_or_else(|_| format!("member {index}"), std::borrow::Cow::into_owned);
        if member.is_dir() || !is_wanted(Path::new(&name)) {
            continue;
        }
        let size = member.size();
        members.push(Listed { name: visible(&name), size, index: limits.take(size).map(|()| index) });
    }
    members
}

fn zip_member<R: Read + Seek>(
    archive: &mut zip::ZipArchive<R>,
    index: usize,
    size: u64,
) -> Result<Vec<u8>, Problem> {
    let mut member = archive.by_index(index).map_err(not_unpacked)?;
    read(&mut member, size)
}

fn cabinet(source: impl Read + Seek, limits: &mut Limits) -> Result<Vec<Member>, Problem> {
    let mut cabinet = cab::Cabinet::new(source).map_err(damaged)?;
    let mut wanted = Vec::new();
    for folder in cabinet.folder_entries() {
        let mut before = 0_u64;
        for file in folder.file_entries() {
            let size = u64::from(file.uncompressed_size());
            before = before.saturating_add(size);
            if is_wanted(Path::new(file.name())) {
                wanted.push((file.name().to_owned(), size, before));
            }
        }
    }
    let mut work = 0_u64;
    let mut unpack = |(name, size, before): (String, u64, u64)| {
        work = work.saturating_add(before);
        let content = if work > MOST_CABINET_WORK {
            Err(too_large("its place is further behind"))
        } else {
            limits.take(size).and_then(|()| {
                let mut reader = cabinet.read_file(&name).map_err(not_unpacked)?;
                read(&mut reader, size)
            })
        };
        Member { name: visible(&name), size, content }
    };
    Ok(wanted.into_iter().take(MOST_MEMBERS).map(&mut unpack).collect())
}

fn seven_zip(source: &mut (impl Read + Seek), limits: &mut Limits) -> Result<Vec<Member>, Problem> {
    use sevenz_rust2::{ArchiveReader, Password};
    let memory = MOST_DECODER_KIB as usize;
    let mut archive =
        ArchiveReader::new_with_memory_limit(source, Password::empty(), memory).map_err(damaged)?;
    archive.set_thread_count(1);
    let mut members = Vec::new();
    let mut passed = 0_u64;
    let result = archive.for_each_entries(|entry, reader| {
        // What is not wanted is unpacked too, on the way to what follows it.
        passed = passed.saturating_add(entry.size());
        if passed > MOST_ARCHIVE_BYTES || members.len() >= MOST_MEMBERS {
            return Ok(false);
        }
        if entry.is_directory() || !entry.has_stream() || !is_wanted(Path::new(entry.name())) {
            return Ok(true);
        }
        let size = entry.size();
        let content = limits.take(size).and_then(|()| read(reader, size));
        let more = content.is_ok();
        members.push(Member { name: visible(entry.name()), size, content });
        Ok(more)
    });
    match result {
        Err(error) if members.is_empty() => Err(not_unpacked(error)),
        // What came before the damage is there.
        _ => Ok(members),
    }
}

/// The one file of a format that holds one.
fn only(stem: &str, reader: &mut impl Read, limits: &Limits) -> Member {
    let mut bytes = Vec::new();
    let limit = limits.member;
    let content = match reader.take(limit + 1).read_to_end(&mut bytes) {
        Ok(got) if got as u64 > limit => Err(too_large(&format!("more than {limit} bytes are more"))),
        // A cut archive still gives what came before the cut, which a dump can be read from.
        Ok(_) => Ok(bytes),
        Err(_) if bytes.len() >= 0x2000 => Ok(bytes),
        Err(error) => Err(not_unpacked(error)),
    };
    let size = content.as_ref().map_or(0, |bytes| bytes.len() as u64);
    Member { name: visible(stem), size, content }
}

/// A member's bytes, no more than it states.
fn read(reader: &mut (impl Read + ?Sized), size: u64) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::with_capacity(usize::try_from(size.min(64 << 20)).unwrap_or(0));
    reader.take(size.min(MOST_BYTES)).read_to_end(&mut bytes).map_err(not_unpacked)?;
    Ok(bytes)
}

fn damaged(error: impl std::fmt::Display) -> Problem {
    Problem::new(Severity::Error, "archive", format!("cannot be read: {error}"))
        .with_hint("the download may be incomplete: fetch it again, or unpack it and analyse the folder")
}

fn not_unpacked(error: impl std::fmt::Display) -> Problem {
    Problem::new(Severity::Error, "archive member", format!("cannot be unpacked: {error}"))
        .with_hint("it may be encrypted or damaged: unpack the archive and analyse the folder")
}

fn too_large(what: &str) -> Problem {
    Problem::new(Severity::Error, "archive", format!("{what} than is unpacked here"))
        .with_hint("unpack the archive and analyse the folder")
}

/// What a file in a folder or an archive is called that may hold a crash.
pub(crate) fn is_wanted(path: &Path) -> bool {
    has_extension(path, &["dmp", "mdmp", "hdmp", "kdmp", "txt", "log"]) || has_extension(path, &EXTENSIONS)
}

/// The file is called as one of these kinds.
pub(crate) fn has_extension(path: &Path, wanted: &[&str]) -> bool {
    path.extension()
        .is_some_and(|extension| wanted.iter().any(|wanted| extension.eq_ignore_ascii_case(wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const TEXT: &[u8] = b"PAGEDU64, and so on";

    fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn cab(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = cab::CabinetBuilder::new();
        let folder = builder.add_folder(cab::CompressionType::MsZip);
        for (name, _) in members {
            folder.add_file(*name);
        }
        let mut writer = builder.build(Cursor::new(Vec::new())).unwrap();
        let mut contents = members.iter();
        while let Some(mut file) = writer.next_file().unwrap() {
            file.write_all(contents.next().unwrap().1).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn seven_zip(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = sevenz_rust2::ArchiveWriter::new(Cursor::new(Vec::new())).unwrap();
        for (name, bytes) in members {
            writer.push_archive_entry(sevenz_rust2::ArchiveEntry::new_file(name), Some(*bytes)).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn names(bytes: Vec<u8>) -> Vec<(String, Vec<u8>)> {
        let format = Format::of(&bytes).unwrap();
        let members = unpack_bytes(format, bytes, "crash.dmp.gz").unwrap();
        members.into_iter().map(|member| (member.name, member.content.unwrap())).collect()
    }

    #[test]
    fn every_format_gives_its_dumps_and_nothing_else() {
        let members: [(&str, &[u8]); 4] =
            [("a.dmp", TEXT), ("read.me", b"no"), ("mini/B.DMP", b"two"), ("log.txt", b"three")];
        let wanted: Vec<_> =
            [0, 2, 3].map(|n: usize| (members[n].0.to_owned(), members[n].1.to_vec())).into();
        assert_eq!(names(zip(&members)), wanted);
        assert_eq!(names(cab(&members)), wanted);
        assert_eq!(names(seven_zip(&members)), wanted);
        assert_eq!(names(gzip(TEXT)), [("crash.dmp".to_owned(), TEXT.to_vec())]);
        let two = [gzip(TEXT), gzip(b" more")].concat();
        assert_eq!(names(two)[0].1, [TEXT, b" more"].concat());
    }

    #[test]
    fn damage_is_named_and_what_came_before_it_is_kept() {
        for whole in [zip(&[("a.dmp", TEXT)]), cab(&[("a.dmp", TEXT)]), seven_zip(&[("a.dmp", TEXT)])] {
            let format = Format::of(&whole).unwrap();
            for size in 8..whole.len() {
                let members = unpack_bytes(format, whole[..size].to_vec(), "x");
                // Either the directory is gone, or the member is told to be.
                assert!(
                    members.is_err_and(|problem| problem.what.contains("cannot be")) || format != Format::Zip,
                    "{format:?} cut at {size}"
                );
            }
        }
        // Bytes that do not pack, so that half of the file is half of the dump.
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(0x2_0000)
        .collect();
        let packed = gzip(&noise);
        let got = names(packed[..packed.len() / 2].to_vec()).remove(0).1;
        assert!(got.len() > 0x8000 && noise.starts_with(&got), "{:#x}", got.len());
        let short = unpack_bytes(Format::Gzip, packed[..20].to_vec(), "x").unwrap().remove(0);
        assert!(short.content.unwrap_err().what.contains("cannot be unpacked"));
    }

    #[test]
    fn what_unpacks_to_too_much_is_not_unpacked() {
        let mut limits = Limits::new(1000, 3000 << 20);
        assert_eq!(limits.member, HARMLESS);
        assert!(limits.take(HARMLESS + 1).unwrap_err().what.contains("more than is unpacked here"));
        assert_eq!(Limits::new(1 << 30, 0).member, MOST_BYTES);
        assert!(limits.take(HARMLESS).is_ok());
        // 80 MiB of zeros.
        let bomb = gzip(&vec![0; 80 << 20]);
        assert!(bomb.len() < 1_000_000);
        let mut small = Limits::new(10, MOST_HELD_BYTES);
        let member = only("x", &mut flate2::read::MultiGzDecoder::new(bomb.as_slice()), &small);
        assert!(member.content.unwrap_err().what.contains("more than 67108864 bytes"));
        small.total = 5;
        assert!(small.take(6).is_err() && small.take(5).is_ok() && small.take(1).is_err());
    }
}
