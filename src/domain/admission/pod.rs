//! A pod as the rules see it: raw JSON, all its containers in the order they start.

use serde_json::{Map, Value};

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// A view of a pod. Fields that the rules depend on were seen to be of the right type.
pub(super) struct Pod<'a> {
    /// Its name; empty while it is to be generated.
    pub name: &'a str,
    /// Its UID; empty while it has none.
    pub uid: &'a str,
    /// The pod's spec.
    pub spec: &'a Object,
    /// Annotations.
    pub annotations: Option<&'a Object>,
    /// Init containers and sidecars in their order, then main, then ephemeral containers.
    pub containers: Vec<Container<'a>>,
    /// Volumes.
    pub volumes: Vec<Volume<'a>>,
}

/// What a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container that keeps running.
    Sidecar,
    /// The workload.
    Main,
    /// Added to a running pod.
    Ephemeral,
}

impl Kind {
    /// How a message calls it.
    pub fn noun(self) -> &'static str {
        match self {
            Kind::Init => "init container",
            Kind::Sidecar => "sidecar container",
            Kind::Main => "container",
            Kind::Ephemeral => "ephemeral container",
        }
    }

    /// Whether it is in `spec.initContainers`.
    pub fn is_init(self) -> bool {
        matches!(self, Kind::Init | Kind::Sidecar)
    }
}

/// A container.
pub(super) struct Container<'a> {
    pub kind: Kind,
    pub name: &'a str,
    pub image: &'a str,
    pub raw: &'a Object,
    pub mounts: Vec<Mount<'a>>,
    /// Volumes it attaches as block devices.
    pub devices: Vec<&'a str>,
}

impl Container<'_> {
    /// Whether it mounts or attaches a volume.
    pub fn uses(&self, volume: &str) -> bool {
        self.mounts.iter().any(|m| m.volume == volume) || self.devices.contains(&volume)
    }

    /// Its security context.
    pub fn security(&self) -> Option<&Object> {
        object(self.raw, "securityContext")
    }
}

/// A mount of a volume in a container.
pub(super) struct Mount<'a> {
    pub volume: &'a str,
    pub path: &'a str,
    pub read_only: bool,
    pub raw: &'a Object,
}

/// A volume of a pod.
pub(super) struct Volume<'a> {
    pub name: &'a str,
    pub raw: &'a Object,
}

impl Volume<'_> {
    /// Whether the source itself is read-only, whatever its mounts say.
    pub fn read_only_source(&self) -> bool {
        self.raw.values().any(|source| source.get("readOnly").and_then(Value::as_bool) == Some(true))
    }
}

/// A field that is an object; absent and null are the same.
pub(super) fn object<'a>(of: &'a Object, field: &str) -> Option<&'a Object> {
    of.get(field).and_then(Value::as_object)
}

/// A field that is a string and not empty.
pub(super) fn text<'a>(of: &'a Object, field: &str) -> Option<&'a str> {
    of.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// A field that is true.
pub(super) fn is_true(of: &Object, field: &str) -> bool {
    of.get(field).and_then(Value::as_bool) == Some(true)
}

/// The strings of a list.
pub(super) fn strings<'a>(of: &'a Object, field: &str) -> Vec<&'a str> {
    of.get(field)
        .and_then(Value::as_array)
        .map(|items| items.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

impl<'a> Pod<'a> {
    /// Reads a pod.
    ///
    /// # Errors
    /// Every field that is missing or of the wrong type, as sentences.
    pub fn read(root: &'a Value) -> Result<Self, Vec<String>> {
        let mut reader = Reader::default();
        let pod = reader.pod(root);
        match pod {
            Some(pod) if reader.problems.is_empty() => Ok(pod),
            _ => Err(reader.problems),
        }
    }

    /// The service account that the pod runs as.
    pub fn service_account(&self) -> &'a str {
        text(self.spec, "serviceAccountName").or_else(|| text(self.spec, "serviceAccount")).unwrap_or("default")
    }

    /// The node that it is placed on.
    pub fn node(&self) -> Option<&'a str> {
        text(self.spec, "nodeName")
    }

    /// The security context of the pod.
    pub fn security(&self) -> Option<&'a Object> {
        object(self.spec, "securityContext")
    }
}

#[derive(Default)]
struct Reader {
    problems: Vec<String>,
}

impl Reader {
    /// More problems than this help nobody.
    const MOST: usize = 20;

    /// More volumes, containers or mounts of a container than this are no pod, but an attempt to keep the webhook busy.
    const LONGEST: usize = 512;

    fn problem(&mut self, path: &str, what: &str) {
        if self.problems.len() < Self::MOST {
            self.problems.push(format!("{path} {what}"));
        }
    }

    fn object<'a>(&mut self, of: &'a Object, path: &str, field: &str) -> Option<&'a Object> {
        match of.get(field) {
            None | Some(Value::Null) => None,
            Some(Value::Object(found)) => Some(found),
            Some(_) => {
                self.problem(&format!("{path}.{field}"), "is not an object");
                None
            }
        }
    }

    fn list<'a>(&mut self, of: &'a Object, path: &str, field: &str) -> Vec<(String, &'a Object)> {
        let path = format!("{path}.{field}");
        let items = match of.get(field) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.problem(&path, "is not a list");
                return Vec::new();
            }
        };
        if items.len() > Self::LONGEST {
            self.problem(&path, &format!("has more than {} items", Self::LONGEST));
            return Vec::new();
        }
        let mut objects = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match item {
                Value::Object(found) => objects.push((format!("{path}[{index}]"), found)),
                _ => self.problem(&format!("{path}[{index}]"), "is not an object"),
            }
        }
        objects
    }

    fn text<'a>(&mut self, of: &'a Object, path: &str, field: &str, required: bool) -> &'a str {
        match of.get(field) {
            Some(Value::String(found)) if !found.is_empty() || !required => found,
            None | Some(Value::Null) if !required => "",
            None | Some(Value::Null) => {
                self.problem(&format!("{path}.{field}"), "is missing");
                ""
            }
            Some(_) => {
                self.problem(
                    &format!("{path}.{field}"),
                    if required { "is not a string, or empty" } else { "is not a string" },
                );
                ""
            }
        }
    }

    fn flag(&mut self, of: &Object, path: &str, field: &str) -> bool {
        match of.get(field) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(found)) => *found,
            Some(_) => {
                self.problem(&format!("{path}.{field}"), "is not a boolean");
                false
            }
        }
    }

    fn strings(&mut self, of: &Object, path: &str, field: &str) {
        match of.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::Array(items)) if items.iter().all(Value::is_string) => {}
            Some(_) => self.problem(&format!("{path}.{field}"), "is not a list of strings"),
        }
    }

    fn pod<'a>(&mut self, root: &'a Value) -> Option<Pod<'a>> {
        let Some(root) = root.as_object() else {
            self.problem("the pod", "is not an object");
            return None;
        };
        let Some(spec) = self.object(root, "pod", "spec") else {
            if root.get("spec").is_none_or(Value::is_null) {
                self.problem("spec", "is missing");
            }
            return None;
        };
        let metadata = self.object(root, "pod", "metadata");
        let annotations = metadata.and_then(|m| self.object(m, "metadata", "annotations"));
        for field in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
            self.flag(spec, "spec", field);
        }
        for field in ["serviceAccountName", "serviceAccount", "nodeName"] {
            self.text(spec, "spec", field, false);
        }
        self.security(spec, "spec");
        let mut containers = Vec::new();
        for (field, kind) in
            [("initContainers", Kind::Init), ("containers", Kind::Main), ("ephemeralContainers", Kind::Ephemeral)]
        {
            for (path, raw) in self.list(spec, "spec", field) {
                containers.push(self.container(&path, raw, kind));
            }
        }
        let listed = spec.get("containers").and_then(Value::as_array);
        if listed.is_none_or(Vec::is_empty) && spec.get("containers").is_none_or(|c| c.is_array() || c.is_null()) {
            self.problem("spec.containers", "has no container");
        }
        let mut volumes = Vec::new();
        for (path, raw) in self.list(spec, "spec", "volumes") {
            volumes.push(Volume { name: self.text(raw, &path, "name", true), raw });
        }
        self.list(spec, "spec", "resourceClaims");
        let named = |field: &str| metadata.and_then(|metadata| text(metadata, field)).unwrap_or_default();
        Some(Pod { name: named("name"), uid: named("uid"), spec, annotations, containers, volumes })
    }

    fn container<'a>(&mut self, path: &str, raw: &'a Object, kind: Kind) -> Container<'a> {
        let kind = match raw.get("restartPolicy") {
            Some(Value::String(policy)) if kind == Kind::Init && policy == "Always" => Kind::Sidecar,
            _ => kind,
        };
        let mut mounts = Vec::new();
        for (path, mount) in self.list(raw, path, "volumeMounts") {
            let read_only = self.flag(mount, &path, "readOnly");
            let volume = self.text(mount, &path, "name", true);
            mounts.push(Mount { volume, path: self.text(mount, &path, "mountPath", false), read_only, raw: mount });
        }
        let mut devices = Vec::new();
        for (path, device) in self.list(raw, path, "volumeDevices") {
            devices.push(self.text(device, &path, "name", true));
        }
        self.security(raw, path);
        if let Some(resources) = self.object(raw, path, "resources") {
            let path = format!("{path}.resources");
            self.object(resources, &path, "requests");
            self.object(resources, &path, "limits");
        }
        Container {
            kind,
            name: self.text(raw, path, "name", true),
            image: self.text(raw, path, "image", false),
            raw,
            mounts,
            devices,
        }
    }

    fn security(&mut self, of: &Object, path: &str) {
        let Some(security) = self.object(of, path, "securityContext") else { return };
        let path = format!("{path}.securityContext");
        for field in ["privileged", "allowPrivilegeEscalation", "runAsNonRoot", "readOnlyRootFilesystem"] {
            self.flag(security, &path, field);
        }
        self.text(security, &path, "procMount", false);
        for field in ["seccompProfile", "appArmorProfile", "seLinuxOptions"] {
            if let Some(profile) = self.object(security, &path, field) {
                for part in ["type", "user", "role"] {
                    self.text(profile, &format!("{path}.{field}"), part, false);
                }
            }
        }
        if let Some(windows) = self.object(security, &path, "windowsOptions") {
            self.flag(windows, &format!("{path}.windowsOptions"), "hostProcess");
        }
        if let Some(capabilities) = self.object(security, &path, "capabilities") {
            self.strings(capabilities, &format!("{path}.capabilities"), "add");
            self.strings(capabilities, &format!("{path}.capabilities"), "drop");
        }
        for field in ["runAsUser", "runAsGroup"] {
            if security.get(field).is_some_and(|id| !id.is_null() && !id.is_i64() && !id.is_u64()) {
                self.problem(&format!("{path}.{field}"), "is not an integer");
            }
        }
    }
}
