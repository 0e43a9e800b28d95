//! CSI drivers whose handle is free text, in CEL: what `domain::backend::placed` says in Rust.

use super::cel;
use crate::domain::backend::{NFS_DRIVER, SMB_DRIVER};

/// Whether source `v` is of such a driver.
pub fn is_placed(v: &str) -> String {
    format!("(has({v}.csi) && {v}.csi.driver.trim().lowerAscii() in ['{NFS_DRIVER}', '{SMB_DRIVER}'])")
}

/// `CONDITION ? KEY : ` for each driver. The key is empty where attributes are missing or stand there twice.
pub fn keys(v: &str) -> String {
    let nfs = format!("'v1:nfs:' + {} + ':' + {}", cel::nfs_host("server[0]"), cel::path("directory"));
    let smb = format!("'v1:smb:' + {} + ':' + {}", cel::nfs_host("steps[0]"), cel::path("directory"));
    each(v, &format!("{GIVEN} ? {nfs} : ''"), &format!("{NAMED} ? {smb} : ''"))
}

/// `CONDITION ? BEGINNING OF THE KEYS THAT IT MAY BE : ` for each driver, where it is spelled so that it cannot be compared.
pub fn unclear(v: &str) -> String {
    let written = format!(
        "(size(subdir) == 1 && subdir[0].contains('${{') && (subdir[0].contains('..') || !has({v}.csi.volumeHandle) || {v}.csi.volumeHandle == ''))"
    );
    let spelled =
        |host: &str| format!("({} || {} || {written})", cel::unclear_nfs_host(host), cel::unclear_path("directory"));
    each(
        v,
        &format!("{GIVEN} && !{} ? '' : 'v1:nfs:'", spelled("server[0]")),
        &format!("{NAMED} && !{} ? '' : 'v1:smb:'", spelled("steps[0]")),
    )
}

const GIVEN: &str = "size(server) == 1 && size(share) == 1 && size(subdir) <= 1";
const NAMED: &str = "size(source) == 1 && size(steps) > 0 && size(subdir) <= 1";
/// The directory within the share; nothing where the driver would write names of objects into it.
const SUBDIRECTORY: &str = "(size(subdir) == 1 && !subdir[0].contains('${') ? subdir[0] : '')";

/// The two choices, with the attributes under their names.
fn each(v: &str, nfs: &str, smb: &str) -> String {
    let of = |driver: &str| format!("has({v}.csi) && {v}.csi.driver.trim().lowerAscii() == '{driver}'");
    let attributes = format!("has({v}.csi.volumeAttributes) ? {v}.csi.volumeAttributes : {{}}");
    // These drivers take the names of attributes in any case.
    let named = |name: &str, body: &str| {
        let values = format!("attributes.filter(k, k.lowerAscii() == '{name}').map(k, attributes[k])");
        cel::bind(name, &values, body)
    };
    let nfs = cel::bind("directory", &format!("(size(share) == 1 ? share[0] : '') + '/' + {SUBDIRECTORY}"), nfs);
    let nfs = named("server", &named("share", &named("subdir", &nfs)));
    let smb = cel::bind(
        "directory",
        &format!(
            "(size(steps) > 0 ? steps.join('/').substring(size(steps[0])) : '') + '/' + {SUBDIRECTORY}.lowerAscii()"
        ),
        smb,
    );
    let steps = "size(source) == 1 ? source[0].lowerAscii().replace('\\\\', '/').split('/').filter(x, x != '') : []";
    let smb = named("source", &named("subdir", &cel::bind("steps", steps, &smb)));
    let (nfs, smb) = (cel::bind("attributes", &attributes, &nfs), cel::bind("attributes", &attributes, &smb));
    format!("{} ? {nfs} : {} ? {smb} : ", of(NFS_DRIVER), of(SMB_DRIVER))
}
