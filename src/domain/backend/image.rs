//! Images, as a pod names them: `[host/]path[:tag][@digest]`.

use super::BackendKey;

/// What a reference says of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Host and path in the spelling that is compared, without tag and digest.
    pub repository: String,
    /// Digest of an index or manifest, where the reference has one.
    pub digest: Option<String>,
}

impl Reference {
    /// Reads a reference as container runtimes do: without a host it is of Docker Hub.
    pub fn read(text: &str) -> Self {
        if is_id(text) {
            return Self { repository: String::new(), digest: Some(text.trim().to_owned()) };
        }
        let (name, digest) = match text.trim().split_once('@') {
            Some((name, digest)) => (name, Some(digest.to_owned())),
            None => (text.trim(), None),
        };
        let (first, rest) = match name.split_once('/') {
            Some((first, rest))
                if first.contains(['.', ':']) || first == "localhost" || first != first.to_ascii_lowercase() =>
            {
                (first.to_ascii_lowercase(), rest)
            }
            _ => (HUB.to_owned(), name),
        };
        let host = match first.rsplit_once(':') {
            Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
                match port.trim_start_matches('0') {
                    "443" => host.to_owned(),
                    port => format!("{host}:{port}"),
                }
            }
            _ => first,
        };
        let host = if host == "index.docker.io" { HUB } else { host.as_str() };
        let path = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => path,
            _ => rest,
        };
        let library = if host == HUB && !path.contains('/') { "library/" } else { "" };
        Self { repository: format!("{host}/{library}{path}"), digest }
    }

    /// The keys under which an image can be registered: its digest, and its repository.
    pub fn keys(&self) -> Vec<BackendKey> {
        let repository = BackendKey(format!("v1:repository:{}", self.repository));
        self.digest.as_deref().map(BackendKey::image).into_iter().chain([repository]).collect()
    }
}

/// Docker Hub.
const HUB: &str = "docker.io";

/// Whether a reference is the ID of an image that a node has already, or the beginning of one: it names no repository, and
/// no digest that a registry knows.
pub fn is_id(reference: &str) -> bool {
    let reference = reference.trim();
    !reference.contains(['/', '@']) && reference.starts_with("sha256:")
}
