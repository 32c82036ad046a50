//! `_NT_SYMBOL_PATH`: where to look, in which order, and where to keep what was found.

use super::{MAX_FILE, Store, StoreFile, read};
use std::path::{Path, PathBuf};

/// Where files may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// A store in a folder of this machine.
    Store(PathBuf),
    /// A symbol server's address.
    Server(String),
}

/// One element of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Element {
    /// A folder: files lie in it by name alone, in WinDbg's subfolders by kind, or as in a store.
    Folder(PathBuf),
    /// Places from the nearest to the furthest; what is found in one is kept in those before it.
    Chain(Vec<Place>),
}

/// A symbol path: `srv*C:\Symbols*https://msdl.microsoft.com/download/symbols;D:\mine`.
///
/// Elements stand between `;`:
/// `srv*NEAR*…*FAR` and `symsrv*DLL*NEAR*…*FAR` search from left to right and keep what they find in every store to its
/// left, an empty place being the default store; `cache*FOLDER` puts a store before every chain to its right; an address
/// alone is a chain of the default store and that server; all else is a folder. `%NAME%` stands for a variable.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SymbolPath {
    elements: Vec<Element>,
    ignored: Vec<String>,
}

impl SymbolPath {
    /// Reads a path. `variable` gives the values of variables, `default_store` is what an empty place stands for.
    pub fn parse(text: &str, default_store: &Path, variable: impl Fn(&str) -> Option<String>) -> Self {
        let mut path = Self::default();
        let mut cache: Option<PathBuf> = None;
        for element in expand(text, variable).split(';').map(str::trim).filter(|element| !element.is_empty())
        {
            if element.split('*').map(str::trim).any(|part| is_server(part) && !has_host(part)) {
                path.ignored.push(element.to_owned());
                continue;
            }
            let mut parts = element.split('*').map(str::trim);
            let head = parts.next().unwrap_or_default();
            let or_default =
                |part: &str| if part.is_empty() { default_store.to_owned() } else { part.into() };
            let mut chain = match &*head.to_ascii_lowercase() {
                "srv" => places(parts, default_store),
                // The program that would fetch: this one does it itself.
                "symsrv" => places(parts.skip(1), default_store),
                "cache" => {
                    cache = parts.next().map(or_default);
                    continue;
                }
                _ if element.contains('*') => {
                    path.ignored.push(element.to_owned());
                    continue;
                }
                _ if is_server(head) => {
                    vec![Place::Store(default_store.to_owned()), Place::Server(head.to_owned())]
                }
                _ => {
                    path.elements.push(Element::Folder(head.into()));
                    continue;
                }
            };
            // A server must be the last: nothing can be kept in it.
            if let Some(server) = chain.iter().position(|place| matches!(place, Place::Server(_))) {
                path.ignored
                    .extend(chain.drain(server + 1..).map(|place| format!("{place:?} behind a server")));
                if server == 0 {
                    chain.insert(0, Place::Store(default_store.to_owned()));
                }
            }
            if let Some(cache) = &cache {
                chain.insert(0, Place::Store(cache.clone()));
            }
            path.elements.push(Element::Chain(chain));
        }
        path
    }

    /// A path of one folder.
    pub fn folder(folder: impl Into<PathBuf>) -> Self {
        Self { elements: vec![Element::Folder(folder.into())], ignored: Vec::new() }
    }

    /// True if `text` can only be meant as such a path, and not as one file or folder.
    pub fn is_path(text: &str) -> bool {
        text.contains(['*', ';']) || is_server(text)
    }

    /// Elements that could not be understood.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// Each server, with the stores before it: what a program that may use the network has to ask, in order, and
    /// where it has to keep the answer.
    pub fn servers(&self) -> impl Iterator<Item = (&str, Vec<Store>)> {
        self.elements.iter().filter_map(|element| {
            let Element::Chain(places) = element else { return None };
            let Place::Server(address) = places.last()? else { return None };
            let stores = places.iter().filter_map(|place| match place {
                Place::Store(root) => Some(Store::new(root)),
                Place::Server(_) => None,
            });
            Some((&**address, stores.collect()))
        })
    }

    /// The first bytes on this machine that `fits` accepts, and where they were read. No server is asked.
    ///
    /// What a chain holds is copied to the stores before it, where that can be done.
    pub fn find(&self, file: &StoreFile, fits: impl Fn(&[u8]) -> bool) -> Option<(PathBuf, Vec<u8>)> {
        self.elements.iter().find_map(|element| match element {
            Element::Folder(folder) => in_folder(folder, file, &fits),
            Element::Chain(places) => in_chain(places, file, &fits),
        })
    }
}

/// By name, by kind (`sys/a.sys`, `symbols/sys/a.pdb`), and as in a store.
fn in_folder(folder: &Path, file: &StoreFile, fits: &impl Fn(&[u8]) -> bool) -> Option<(PathBuf, Vec<u8>)> {
    let name = file.name();
    let lower = name.to_ascii_lowercase();
    let names = if lower == name { vec![name] } else { vec![name, &lower] };
    let plain = ["", "sys", "exe", "dll", "symbols/sys", "symbols/exe", "symbols/dll"]
        .iter()
        .flat_map(|kind| names.iter().map(move |name| folder.join(kind).join(name)))
        .find_map(|path| {
            let bytes = read(&path, MAX_FILE).ok().filter(|bytes| fits(bytes))?;
            Some((path, bytes))
        });
    plain.or_else(|| Store::new(folder).find(file, fits))
}

fn in_chain(places: &[Place], file: &StoreFile, fits: &impl Fn(&[u8]) -> bool) -> Option<(PathBuf, Vec<u8>)> {
    let mut nearer = Vec::new();
    for place in places {
        let Place::Store(root) = place else { continue };
        let store = Store::new(root);
        if let Some((path, bytes)) = store.find(file, fits) {
            // A store that cannot be written is passed over, as WinDbg does.
            for store in &nearer {
                _ = Store::put(store, file, &bytes);
            }
            return Some((path, bytes));
        }
        nearer.push(store);
    }
    None
}

fn places<'a>(parts: impl Iterator<Item = &'a str>, default_store: &Path) -> Vec<Place> {
    parts
        .map(|part| match part {
            "" => Place::Store(default_store.to_owned()),
            part if is_server(part) => Place::Server(part.trim_end_matches('/').to_owned()),
            part => Place::Store(part.into()),
        })
        .collect()
}

fn is_server(text: &str) -> bool {
    let starts =
        |scheme: &str| text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme));
    starts("https://") || starts("http://")
}

/// More than `https://`.
fn has_host(server: &str) -> bool {
    server.split_once("://").is_some_and(|(_, rest)| !rest.is_empty() && !rest.starts_with('/'))
}

/// Puts in the values of `%NAME%`; what has no value stays as it is.
fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        rest = if let Some((value, after)) =
            after.split_once('%').and_then(|(name, after)| Some((variable(name)?, after)))
        {
            out.push_str(&value);
            after
        } else {
            out.push('%');
            after
        };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    fn parse(text: &str) -> SymbolPath {
        let variable = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
        SymbolPath::parse(text, Path::new("/default"), variable)
    }

    fn store(path: &str) -> Place {
        Place::Store(path.into())
    }

    #[test]
    fn the_grammar() {
        let msdl = || Place::Server("https://msdl.microsoft.com/download/symbols".to_owned());
        let one = |text: &str| parse(text).elements;
        assert_eq!(
            one("srv*%HOME%/sym*https://msdl.microsoft.com/download/symbols/"),
            [Element::Chain(vec![store("/home/me/sym"), msdl()])]
        );
        assert_eq!(one(r"SRV*C:\a*D:\b"), [Element::Chain(vec![store(r"C:\a"), store(r"D:\b")])]);
        assert_eq!(one("srv**/x"), [Element::Chain(vec![store("/default"), store("/x")])]);
        assert_eq!(
            one("srv*https://msdl.microsoft.com/download/symbols"),
            [Element::Chain(vec![store("/default"), msdl()])]
        );
        assert_eq!(
            one("https://msdl.microsoft.com/download/symbols"),
            [Element::Chain(vec![store("/default"), msdl()])]
        );
        assert_eq!(one("symsrv*symsrv.dll*/a*/b"), [Element::Chain(vec![store("/a"), store("/b")])]);
        assert_eq!(
            one(" /mine ;; cache*/c ; srv*/s;/late;cache*;srv*/t"),
            [
                Element::Folder("/mine".into()),
                Element::Chain(vec![store("/c"), store("/s")]),
                Element::Folder("/late".into()),
                Element::Chain(vec![store("/default"), store("/t")]),
            ]
        );
        assert_eq!(one(""), []);
        assert_eq!(parse("what*is*this;%NONE%/x").ignored(), ["what*is*this"]);
        for nobody in ["srv*/a*https://", "https:///", "srv*http:///x"] {
            assert_eq!((one(nobody), parse(nobody).ignored().len()), (vec![], 1), "{nobody}");
        }
        let behind = parse("srv*/a*https://b*/c");
        assert_eq!(behind.ignored().len(), 1);
        assert_eq!(behind.servers().collect::<Vec<_>>(), [("https://b", vec![Store::new("/a")])]);
        assert_eq!(expand("50%/%HOME%%", |_| None), "50%/%HOME%%");
    }

    #[test]
    fn what_a_far_store_has_is_kept_in_the_near_ones() {
        let folder = Folder::new("chain");
        let file = StoreFile::image("a.sys", 1, 2).unwrap();
        let place = |name: &str| folder.0.join(name);
        Store::new(place("far")).put(&file, b"bytes").unwrap();
        let text =
            format!("srv*{}*{}*{}", place("1").display(), place("2").display(), place("far").display());
        let path = SymbolPath::parse(&text, Path::new("/nowhere"), |_| None);
        assert!(path.find(&file, <[u8]>::is_empty).is_none());
        assert!(path.find(&file, |_| true).unwrap().0.starts_with(place("far")));
        assert!(path.find(&file, |_| true).unwrap().0.starts_with(place("1")));
        assert_eq!(Store::new(place("2")).find(&file, |_| true).unwrap().1, b"bytes");
    }

    #[test]
    fn a_folder_has_files_by_name_by_kind_and_by_key() {
        let file = StoreFile::image("A.sys", 1, 2).unwrap();
        for place in ["A.sys", "a.sys", "sys/A.sys", "symbols/sys/a.sys", "a.sys/000000012/a.sys"] {
            let folder = Folder::new("plain");
            folder.write("sys/readme", "");
            let path = folder.write(place, "x");
            let found = SymbolPath::folder(&folder.0).find(&file, |bytes| bytes == b"x");
            assert_eq!(found.map(|found| found.0), Some(path), "{place}");
        }
    }
}
