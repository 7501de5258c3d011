//! `authorization: Basic …`, `authorization: Bearer …`, `cookie: triune_session=…`.

use tonic::metadata::MetadataMap;

/// The cookie that names a session.
pub(crate) const COOKIE: &str = "triune_session";

/// What a request says of its sender; never printed.
pub(crate) enum Credentials {
    None,
    Basic {
        user: String,
        password: String,
    },
    Bearer(String),
    /// There is something, and it cannot be read.
    Broken,
}

impl Credentials {
    pub(crate) fn of(metadata: &MetadataMap) -> Self {
        match metadata.get("authorization") {
            None => Self::None,
            Some(value) => value.to_str().map_or(Self::Broken, Self::parse),
        }
    }

    pub(crate) fn parse(value: &str) -> Self {
        let Some((scheme, rest)) = value.trim().split_once(' ') else { return Self::Broken };
        if scheme.eq_ignore_ascii_case("bearer") {
            return Self::Bearer(rest.trim().to_owned());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Self::Broken;
        }
        let text = decode_base64(rest.trim()).and_then(|bytes| String::from_utf8(bytes).ok());
        match text.as_deref().and_then(|t| t.split_once(':')) {
            Some((user, password)) => Self::Basic { user: user.to_owned(), password: password.to_owned() },
            None => Self::Broken,
        }
    }
}

/// The session that a cookie names.
pub(crate) fn cookie(metadata: &MetadataMap) -> Option<String> {
    metadata.get_all("cookie").iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';')).find_map(
        |pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == COOKIE).then(|| value.trim_matches('"').to_owned())
        },
    )
}

/// Base64 as RFC 4648 writes it, with or without its padding.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    if digits.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for c in digits {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        let of = |text: &'static str| {
            let mut map = MetadataMap::new();
            map.insert("authorization", text.parse().unwrap());
            Credentials::of(&map)
        };
        assert!(matches!(of("Basic YWRhOnM6w6k="), Credentials::Basic { user, password }
            if user == "ada" && password == "s:é"));
        assert!(matches!(of("bearer x.y"), Credentials::Bearer(t) if t == "x.y"));
        for broken in ["Basic ???", "Basic YWRh", "Basic A", "Digest x", "Basic", "\"\""] {
            assert!(matches!(of(broken), Credentials::Broken), "{broken}");
        }
        let mut map = MetadataMap::new();
        map.insert("cookie", "a=b; triune_session=77; c=d".parse().unwrap());
        assert_eq!(cookie(&map).as_deref(), Some("77"));
    }
}
