//! Checks the files of a manifest against the formats that an artifact allows.

use std::os::fd::AsFd;

use super::beneath::OpenError;
use super::finding::{Finding, Findings, Reason};
use super::formats::{self, Format, OpenFile, Problem, Refusal};
use super::inode::{Fingerprint, Inode};
use super::look::{Looked, Place};
use super::manifest::Manifest;
use super::walk::unread;

/// Looks into every file, of which names and sizes were found to be right; nothing where every format is allowed.
///
/// Each file has to be the one that was listed. So has the one that is hashed: what is judged here is identified there.
pub fn check(place: &Place<'_>, manifest: &Manifest, looked: &Looked, allowed: &[Format], findings: &mut Findings) {
    if allowed.is_empty() {
        return;
    }
    for (index, file) in manifest.files().iter().enumerate() {
        let at = looked.place(index, file.path);
        if let Err((reason, detail)) = one(place, at, file.size, looked.prints[index], allowed) {
            findings.add(Finding::new(reason, place.artifact, file.path, detail));
            if findings.are_enough() {
                return;
            }
        }
    }
}

fn one(
    place: &Place<'_>,
    at: &str,
    size: u64,
    listed: Fingerprint,
    allowed: &[Format],
) -> Result<(), (Reason, String)> {
    let file = place.directory.open_file(at).map_err(|error| match error {
        OpenError::Other(errno) => (unread(errno), format!("cannot be opened: {error}")),
        other => (Reason::ChangedWhileRead, format!("cannot be opened any more: {other}")),
    })?;
    let inode = Inode::of(&file).map_err(|error| (unread(error), format!("cannot be examined: {error}")))?;
    if place.prints.of(&inode) != listed {
        return Err((Reason::ChangedWhileRead, "is not the file any more that was listed before".into()));
    }
    match formats::check(&OpenFile::new(file.as_fd(), size), allowed) {
        Ok(()) => Ok(()),
        Err(Refusal::Problem(Problem::Unreadable(error))) => {
            Err((Reason::UnreadableFile, format!("cannot be read: {error}")))
        }
        Err(Refusal::Problem(Problem::Malformed(what))) => Err((Reason::MalformedContent, what)),
        Err(Refusal::NotAllowed(what)) => Err((Reason::FormatNotAllowed, what)),
    }
}
