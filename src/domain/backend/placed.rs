//! CSI drivers whose handle is free text: they mount what `volumeAttributes` name, so that is what the key is made of.

use serde_json::Value;

use super::{BackendKey, canonical_host, canonical_path, comparable_host};

/// NFS by CSI: `server`, `share` and `subdir`.
pub const NFS_DRIVER: &str = "nfs.csi.k8s.io";
/// SMB by CSI: `source` (`//server/share`) and `subdir`.
pub const SMB_DRIVER: &str = "smb.csi.k8s.io";

/// The key of what a CSI source of such a driver mounts; `None` for other drivers.
pub(super) fn key_of(source: &Value) -> Option<Result<BackendKey, String>> {
    let driver = source.get("driver").and_then(Value::as_str).unwrap_or_default().trim().to_ascii_lowercase();
    match driver.as_str() {
        NFS_DRIVER => Some(nfs(source)),
        SMB_DRIVER => Some(smb(source)),
        _ => None,
    }
}

/// The same storage as an `nfs` volume of that server.
fn nfs(source: &Value) -> Result<BackendKey, String> {
    let (server, share) = (required(source, "server")?, required(source, "share")?);
    comparable_host("csi.volumeAttributes.server", server)?;
    Ok(BackendKey::nfs(server, &format!("{share}/{}", subdirectory(source)?)))
}

/// Names on an SMB server are the same in any case.
fn smb(source: &Value) -> Result<BackendKey, String> {
    let share = required(source, "source")?.to_lowercase().replace('\\', "/");
    let mut steps = share.split('/').filter(|step| !step.is_empty());
    let server = steps.next().ok_or_else(|| format!("csi.volumeAttributes.source {share:?} names no server"))?;
    comparable_host("csi.volumeAttributes.source", server)?;
    let path = format!("{}/{}", steps.collect::<Vec<_>>().join("/"), subdirectory(source)?.to_lowercase());
    Ok(BackendKey(format!("v1:smb:{}:{}", canonical_host(server), canonical_path(&path))))
}

/// The directory within the share. Where the driver would write the names of objects into it, the share itself stands for it, unless
/// that leads out of it, or an inline volume says by itself what is written.
fn subdirectory(source: &Value) -> Result<&str, String> {
    let directory = attribute(source, "subdir")?.unwrap_or_default();
    if !directory.contains("${") {
        return Ok(directory);
    }
    let inline = source.get("volumeHandle").and_then(Value::as_str).is_none_or(str::is_empty);
    if inline || directory.contains("..") {
        return Err(format!("csi.volumeAttributes.subdir {directory:?} does not tell what is mounted"));
    }
    Ok("")
}

fn required<'a>(source: &'a Value, name: &str) -> Result<&'a str, String> {
    let value = attribute(source, name)?.filter(|value| !value.trim().is_empty());
    value.ok_or_else(|| format!("csi.volumeAttributes.{name} is missing, and the handle does not tell what is mounted"))
}

/// These drivers take the names of attributes in any case.
fn attribute<'a>(source: &'a Value, name: &str) -> Result<Option<&'a str>, String> {
    let attributes = source.get("volumeAttributes").and_then(Value::as_object).into_iter().flatten();
    let mut found = attributes.filter(|(key, _)| key.eq_ignore_ascii_case(name));
    let first = found.next();
    if found.next().is_some() {
        return Err(format!("csi.volumeAttributes.{name} is given twice, in other cases"));
    }
    Ok(first.and_then(|(_, value)| value.as_str()))
}
