//! Pieces of CEL that the policies share. They say in CEL what `domain::backend` says in Rust; a test against a real
//! API server compares the two.

use crate::domain::rules::COPY_REMEDY;

/// At most this many violations are listed; the API server drops a message of more than 5 KiB.
const LISTED: usize = 8;
/// A path of more steps is not looked up but refused, where storage of its kind is registered.
const MAX_STEPS: usize = 48;

/// The lists of containers of a pod.
pub const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];
/// The name of an object; its prefix while it has no name yet.
pub const NAME: &str = "has(object.metadata.name) ? object.metadata.name : object.metadata.generateName";

/// `expression` under a name within `body`: CEL itself has no `let`.
pub fn bind(name: &str, expression: &str, body: &str) -> String {
    format!("[{expression}].map({name}, {body})[0]")
}

/// The texts of a list as one line (a message with a line break is dropped by the API server).
pub fn joined(list: &str) -> String {
    format!("size({list}) <= {LISTED} ? {list}.join(' ') : {list}[0] + ' (and ' + string(size({list}) - 1) + ' more)'")
}

/// The absolute path without empty and `.` steps. `..` is left: see [`unclear_path`].
pub fn path(raw: &str) -> String {
    format!("('/' + {raw}.split('/').filter(s, s != '' && s != '.').join('/'))")
}

/// The canonical path on a node: `/var/run` is a link to `/run`.
pub fn host_path(raw: &str) -> String {
    let moved = "(p == '/var/run' || p.startsWith('/var/run/')) ? '/run' + p.substring(8) : p";
    bind("p", &path(raw), moved)
}

/// Whether a path is spelled so that it cannot be compared here.
pub fn unclear_path(raw: &str) -> String {
    format!("({raw}.split('/').exists(s, s == '..') || size({raw}.split('/')) >= {MAX_STEPS})")
}

/// Whether a path on a node goes through a link of a process under `/proc` (its root, its directory, its open files),
/// which names any directory a second time.
pub fn unclear_host_path(raw: &str) -> String {
    let canonical = path(raw);
    format!(
        "({} || {canonical}.startsWith('/dev/fd/') || ({canonical}.startsWith('/proc/') && {raw}.split('/').exists(s, s in ['root', 'cwd', 'fd', 'map_files'])))",
        unclear_path(raw)
    )
}

/// The host of an NFS server in lower case, without a trailing dot; an address in its shortest form.
pub fn nfs_host(raw: &str) -> String {
    let plain = format!("{raw}.trim().lowerAscii().replace('[', '').replace(']', '')");
    let undotted = bind("h", &plain, "h.endsWith('.') ? h.substring(0, size(h) - 1) : h");
    bind("h", &undotted, "isIP(h) ? string(ip(h)) : h")
}

/// Whether the host of an NFS server is spelled so that it cannot be compared here.
pub fn unclear_nfs_host(raw: &str) -> String {
    // As `domain::backend::comparable_host`; `isIP` takes no address that is mapped.
    let named = "h.matches('^[a-z0-9_-]+([.][a-z0-9_-]+)*$') && !h.matches('(^|[.])([0-9]+|0x[0-9a-f]*)$')";
    format!("({})", bind("h", &nfs_host(raw), &format!("!isIP(h) && !({named})")))
}

/// A path key and the keys of all directories above it. CEL has no slices: what `split` leaves as its last part is cut off.
pub fn ancestors(key: &str) -> String {
    let lengths: Vec<String> = (2..MAX_STEPS).map(|n| n.to_string()).collect();
    let between = format!(
        "[{}].filter(n, n < size({key}.split('/'))).map(n, {key}.substring(0, size({key}) - size({key}.split('/', n + 1)[n]) - 1))",
        lengths.join(", ")
    );
    format!("({key}.endsWith('/') ? [{key}] : [{key}.split('/')[0] + '/'] + {between} + [{key}])")
}

/// Whether an entry of the index may be used where `variables.environment` is, or nothing is enforced there.
pub fn permitted(entry: &str) -> String {
    format!("(variables.audit || variables.environment in {}.environments)", terms(entry))
}

/// Where an entry of the index may be used, and whom to ask.
fn terms(entry: &str) -> String {
    format!("params.spec.terms[{entry}.terms]")
}

/// `; or ask CONTACT.`, of an entry.
pub fn ask(entry: &str) -> String {
    format!("'; or ask ' + {}.contact + '.'", terms(entry))
}

/// `variables.environment` (empty for none) and `variables.audit` of the namespace that the request is in, by UID.
pub fn membership() -> Vec<(&'static str, String)> {
    // `namespaceObject.metadata.uid` is not in the type that the API server gives to namespaceObject.
    let here = "params.spec.members[request.namespace]";
    vec![
        (
            "environment",
            format!(
                "request.namespace in params.spec.members && {here}.uid == dyn(namespaceObject.metadata).uid ? {here}.environment : ''"
            ),
        ),
        ("audit", format!("variables.environment != '' && {here}.admission == 'Audit'")),
    ]
}

/// The same two for a namespace that an object names, of which only the name is known here.
pub fn membership_of(namespace: &str) -> Vec<(&'static str, String)> {
    vec![
        ("destination", namespace.to_string()),
        (
            "environment",
            "variables.destination in params.spec.members ? params.spec.members[variables.destination].environment : ''".into(),
        ),
        (
            "audit",
            "variables.environment != '' && params.spec.members[variables.destination].admission == 'Audit'".into(),
        ),
    ]
}

/// Whether the request is made by a part of the cluster itself: a controller of kube-system, or the scheduler.
pub fn cluster() -> &'static str {
    "(request.userInfo.username.startsWith('system:serviceaccount:kube-system:') || request.userInfo.username in ['system:kube-controller-manager', 'system:kube-scheduler'])"
}

/// `WeightArtifact "x"`, of an entry.
pub fn artifact(entry: &str) -> String {
    format!("'WeightArtifact \"' + {entry}.of + '\"'")
}

/// `, not permitted in namespace "x" (no environment). Remedy: …`, of an entry.
pub fn not_permitted(entry: &str, namespace: &str, remedy: &str) -> String {
    let place = "(variables.environment == '' ? 'no environment' : 'environment \"' + variables.environment + '\"')";
    let environments = format!("{}.environments", terms(entry));
    let where_to = format!(
        "(size({environments}) == 0 ? 'no environment is permitted for it' : '{remedy} one of: ' + {environments}.join(', '))"
    );
    format!(
        "', not permitted in namespace \"' + {namespace} + '\" (' + {place} + '). Remedy: ' + {where_to} + {}",
        ask(entry)
    )
}

/// `; a copy …. Remedy: …`, of an entry.
pub fn copied(entry: &str) -> String {
    format!(
        "'; a copy would be storage that nobody registered, and is refused everywhere. Remedy: ' + {} + {}",
        literal(COPY_REMEDY),
        ask(entry)
    )
}

/// A text, as a CEL literal.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A list of texts, as a CEL literal.
pub fn literals<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = texts.into_iter().map(|text| literal(text.as_ref())).collect();
    format!("[{}]", texts.join(", "))
}
