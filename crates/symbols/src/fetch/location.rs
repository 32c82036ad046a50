//! Where a redirect leads.

/// The absolute address that `location`, in an answer from `url`, stands for. `None` if it is no such address, or would
/// give up the encryption that `url` has.
pub(super) fn redirected(url: &str, location: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    let plain = location.bytes().all(|byte| byte.is_ascii_graphic());
    if location.is_empty() || !plain {
        return None;
    }
    let location = location.split('#').next()?;
    let to = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{host}{location}")
    } else {
        location.to_owned()
    };
    let (new_scheme, target) = to.split_once("://")?;
    let secure = new_scheme.eq_ignore_ascii_case("https");
    let known = secure || (new_scheme.eq_ignore_ascii_case("http") && scheme.eq_ignore_ascii_case("http"));
    (known && !target.is_empty() && !target.starts_with('/')).then_some(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_paths_are_followed_and_encryption_is_kept() {
        let from = |location| redirected("https://a.example:444/x/y?q", location);
        assert_eq!(from("https://b/z").as_deref(), Some("https://b/z"));
        assert_eq!(from("/z?w#part").as_deref(), Some("https://a.example:444/z?w"));
        assert_eq!(from("//c/z").as_deref(), Some("https://c/z"));
        for refused in ["", "http://b/z", "file:///etc/passwd", "z", "https://", "https:///x", "https://b/\n"]
        {
            assert_eq!(from(refused), None, "{refused:?}");
        }
        assert_eq!(redirected("http://a/x", "http://b/z").as_deref(), Some("http://b/z"));
        assert_eq!(redirected("http://a/x", "https://b/z").as_deref(), Some("https://b/z"));
    }
}
