//! Normalisation of remotes: different spellings of one address are one remote.

use std::path::{Component, Path, PathBuf};

/// The remote of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// `host/path`, or `host:port/path` with a port other than the default.
    Network(String),
    /// A directory on this machine; relative to the top of the working tree if it is relative.
    Directory(PathBuf),
}

/// Default ports by scheme.
const SCHEMES: [(&str, &str); 8] = [
    ("ssh", "22"),
    ("git+ssh", "22"),
    ("ssh+git", "22"),
    ("https", "443"),
    ("http", "80"),
    ("git", "9418"),
    ("ftp", "21"),
    ("ftps", "990"),
];

/// Reads a remote's URL. Scheme, user, token, default port, `.git` and slashes at the end do not
/// count, and neither does the case of the host.
pub fn normalise(url: &str) -> Remote {
    let url = url.trim();
    if let Some((scheme, rest)) = url.split_once("://") {
        let scheme = scheme.to_ascii_lowercase();
        if scheme == "file" {
            return directory(rest);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = without_user(authority).to_ascii_lowercase();
        let default = SCHEMES.iter().find(|(name, _)| *name == scheme).map(|(_, port)| *port);
        let host = match host.rsplit_once(':') {
            // A colon inside of brackets belongs to the address.
            Some((name, port)) if !port.contains(']') => {
                if port.is_empty() || Some(port) == default { name.to_owned() } else { host }
            }
            _ => host,
        };
        return network(&host, path);
    }
    match scp_like(url) {
        Some((host, path)) => network(&host.to_ascii_lowercase(), path),
        None => directory(url),
    }
}

/// Host and path of `[user@]host:path`, where no slash stands before the colon.
fn scp_like(url: &str) -> Option<(&str, &str)> {
    let after_user = without_user_before(url, '/');
    if let Some(bracketed) = after_user.strip_prefix('[') {
        let (host, path) = bracketed.split_once("]:")?;
        return Some((host.strip_suffix(":22").unwrap_or(host), path));
    }
    let (host, path) = after_user.split_once(':')?;
    (!host.is_empty() && !host.contains('/')).then_some((host, path))
}

fn without_user(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// The text without a user, which ends before the first `end`.
fn without_user_before(text: &str, end: char) -> &str {
    let authority = text.split(end).next().unwrap_or_default();
    match authority.split_once('@') {
        Some((user, _)) if !user.contains(':') => &text[user.len() + 1..],
        _ => text,
    }
}

fn network(host: &str, path: &str) -> Remote {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let path = parts.join("/");
    Remote::Network(format!("{host}/{}", path.strip_suffix(".git").unwrap_or(&path)))
}

fn directory(path: &str) -> Remote {
    Remote::Directory(path.into())
}

/// A path without `.`, `..` and repeated slashes. Symbolic links are not resolved.
pub fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_one_remote_are_the_same() {
        for url in [
            "git@github.com:owner/repo.git",
            "git@github.com:owner/repo",
            "git@github.com:/owner/repo.git/",
            "github.com:owner/repo",
            "[github.com]:owner/repo",
            "git@[github.com:22]:owner/repo",
            "ssh://git@github.com/owner/repo.git",
            "ssh://git@github.com:22/owner/repo",
            "git+ssh://github.com/owner/repo",
            "https://github.com/owner/repo.git",
            "https://github.com/owner/repo",
            "https://github.com/owner/repo/",
            "https://github.com/owner/repo.git//",
            "https://github.com//owner//repo",
            "https://github.com:443/owner/repo",
            "https://github.com:/owner/repo",
            "https://user@github.com/owner/repo",
            "https://user:ghp_token@github.com/owner/repo.git",
            "https://x-access-token:a@b@github.com/owner/repo.git",
            "HTTPS://GitHub.COM/owner/repo",
            "http://github.com:80/owner/repo",
            "git://github.com:9418/owner/repo.git",
            " https://github.com/owner/repo ",
        ] {
            assert_eq!(normalise(url), Remote::Network("github.com/owner/repo".into()), "{url}");
        }
    }

    #[test]
    fn another_host_port_or_path_is_another_remote() {
        for (url, expected) in [
            ("https://github.com:8443/owner/repo", "github.com:8443/owner/repo"),
            ("ssh://git@host:2222/owner/repo.git", "host:2222/owner/repo"),
            ("https://[::1]:443/r.git", "[::1]/r"),
            ("https://[::1]/r.git", "[::1]/r"),
            ("https://github.com/Owner/repo", "github.com/Owner/repo"),
            ("git@host:r.git.git", "host/r.git"),
            ("https://host", "host/"),
        ] {
            assert_eq!(normalise(url), Remote::Network(expected.into()), "{url}");
        }
    }

    #[test]
    fn a_path_is_a_directory_on_this_machine() {
        for (url, expected) in [
            ("/srv/repo.git", "/srv/repo.git"),
            ("file:///srv/repo.git", "/srv/repo.git"),
            ("../hub", "../hub"),
            ("./a:b", "./a:b"),
            ("/srv/a:b", "/srv/a:b"),
        ] {
            assert_eq!(normalise(url), Remote::Directory(expected.into()), "{url}");
        }
        assert_eq!(lexical(Path::new("/a/./b/../c//d/")), Path::new("/a/c/d"));
    }
}
