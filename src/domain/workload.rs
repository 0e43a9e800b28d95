//! What an object would make that rules decide on: a pod, the pods of its templates, a claim, a volume.

use serde_json::{Map, Value, json};

use super::network::POLICIES;

/// Most pods of a StatefulSet that are looked at one by one.
const MAX_ORDINALS: u64 = 64;
/// How deep templates are looked for in objects of kinds that are not known.
const MAX_DEPTH: usize = 16;

/// Something that would be made and is decided on.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// API group of the resource that would be made; empty for the core group.
    pub group: &'static str,
    /// The resource that would be made, such as `pods`.
    pub resource: &'static str,
    /// Kind of the object that was given.
    pub kind: String,
    /// Its namespace; empty for a volume.
    pub namespace: String,
    /// Its name, for a StatefulSet with claims of its own that of the pod; empty if it is to be generated.
    pub name: String,
    /// The object that would be made.
    pub object: Value,
    /// Claims that would be made for the pod.
    pub claims: Vec<Value>,
}

impl Subject {
    /// A pod that runs, as it would be made again.
    pub fn running_pod(namespace: &str, name: &str, mut pod: Value) -> Self {
        if let Some(fields) = pod.as_object_mut() {
            fields.remove("status");
        }
        Self {
            group: "",
            resource: "pods",
            kind: "Pod".into(),
            namespace: namespace.into(),
            name: name.into(),
            object: pod,
            claims: Vec::new(),
        }
    }
}

/// What an object would make; nothing if no rule decides on it. `namespace` is for objects that name none.
///
/// # Errors
/// Where an object of a kind that makes pods has no template.
pub fn subjects(object: &Value, namespace: &str) -> Result<Vec<Subject>, String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let kind = text("/kind");
    let named = text("/metadata/namespace");
    let base = Subject {
        group: "",
        resource: "pods",
        kind: kind.into(),
        namespace: if named.is_empty() { namespace } else { named }.into(),
        name: text("/metadata/name").into(),
        object: Value::Null,
        claims: Vec::new(),
    };
    let pointer = match (text("/apiVersion").split_once('/').map_or("", |(group, _)| group), kind) {
        ("", "Pod") => return Ok(vec![itself(base, object)]),
        ("", "PersistentVolumeClaim") => {
            return Ok(vec![itself(Subject { resource: "persistentvolumeclaims", ..base }, object)]);
        }
        ("", "PersistentVolume") => {
            let volume = Subject { resource: "persistentvolumes", namespace: String::new(), ..base };
            return Ok(vec![Subject { object: object.clone(), ..volume }]);
        }
        (group, "NetworkPolicy" | "CiliumNetworkPolicy") => {
            let resource = if kind == "NetworkPolicy" { "networkpolicies" } else { "ciliumnetworkpolicies" };
            let policy = POLICIES.iter().find(|policy| **policy == (group, resource));
            return Ok(policy
                .map(|(group, resource)| itself(Subject { group, resource, ..base }, object))
                .into_iter()
                .collect());
        }
        ("", "PodTemplate") => "/template",
        ("", "ReplicationController")
        | ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job") => "/spec/template",
        ("batch", "CronJob") => "/spec/jobTemplate/spec/template",
        ("serving.kserve.io", "InferenceService") => {
            let parts = COMPONENTS.iter().filter_map(|part| Some((part, object.pointer("/spec")?.get(part)?)));
            return Ok(parts.map(|(part, component)| of_component(&base, part, component)).collect());
        }
        _ => {
            let mut found = Vec::new();
            templates(object, 0, &mut found);
            return Ok(found.into_iter().map(|template| from_template(base.clone(), template)).collect());
        }
    };
    let template = object
        .pointer(pointer)
        .filter(|template| template.get("spec").is_some())
        .ok_or_else(|| format!("{kind} {:?} has no pod template at {}", base.name, pointer.replace('/', ".")))?;
    let claim_templates = object.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array);
    match claim_templates.filter(|list| kind == "StatefulSet" && !list.is_empty()) {
        Some(list) => Ok(stateful(&base, object, template, list)),
        None => Ok(vec![from_template(base, template)]),
    }
}

fn itself(base: Subject, object: &Value) -> Subject {
    let mut object = object.clone();
    // Where metadata is no object, the decision says so.
    if let Some(fields) = object.as_object_mut()
        && let Some(metadata) = fields.entry("metadata").or_insert_with(|| json!({})).as_object_mut()
    {
        metadata.insert("namespace".into(), base.namespace.as_str().into());
    }
    Subject { object, ..base }
}

fn from_template(base: Subject, template: &Value) -> Subject {
    let mut metadata = template.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    // A controller does not take these from a template.
    for field in ["name", "namespace", "uid", "ownerReferences"] {
        metadata.remove(field);
    }
    metadata.insert("generateName".into(), format!("{}-", base.name).into());
    metadata.insert("namespace".into(), base.namespace.as_str().into());
    let spec = template.get("spec").cloned().unwrap_or_default();
    Subject { object: json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}), ..base }
}

/// The parts of an InferenceService of KServe that run pods. Each is a PodSpec itself, with fields of its own beside.
const COMPONENTS: [&str; 3] = ["predictor", "transformer", "explainer"];

/// The pod of a part of an InferenceService. A part with a `model` names no container but what the serving runtime's is
/// to differ in; weights of `storageUri: pvc://CLAIM/PATH` are mounted into it.
fn of_component(base: &Subject, part: &str, component: &Value) -> Subject {
    const CONTAINER: &str = "kserve-container";
    let metadata: Map<String, Value> = ["labels", "annotations"]
        .iter()
        .filter_map(|field| Some(((*field).to_owned(), component.get(field)?.clone())))
        .collect();
    let mut spec = component.as_object().cloned().unwrap_or_default();
    let model = spec.remove("model");
    if let Some(Value::Object(mut model)) = model {
        let storage = model.remove("storageUri");
        model.insert("name".into(), CONTAINER.into());
        let claim = storage.as_ref().and_then(Value::as_str).and_then(|uri| uri.strip_prefix("pvc://"));
        if let Some(claim) = claim {
            let (claim, path) = claim.split_once('/').unwrap_or((claim, ""));
            const VOLUME: &str = "kserve-pvc-source";
            push(
                &mut spec,
                "volumes",
                json!({"name": VOLUME, "persistentVolumeClaim": {"claimName": claim, "readOnly": true}}),
            );
            let mount = json!({"name": VOLUME, "mountPath": "/mnt/models", "subPath": path, "readOnly": true});
            push(&mut model, "volumeMounts", mount);
        }
        push(&mut spec, "containers", Value::Object(model));
    }
    let mut subject = from_template(base.clone(), &json!({"metadata": metadata, "spec": spec}));
    subject.name = format!("{}-{part}", base.name);
    subject
}

fn push(fields: &mut Map<String, Value>, list: &str, item: Value) {
    let mut items = fields.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
    items.push(item);
    fields.insert(list.into(), items.into());
}

/// A StatefulSet makes claims, and mounts them: what is behind a claim that is already there may differ from pod to pod.
fn stateful(base: &Subject, object: &Value, template: &Value, list: &[Value]) -> Vec<Subject> {
    let replicas = object.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1).clamp(1, MAX_ORDINALS);
    let start = object.pointer("/spec/ordinals/start").and_then(Value::as_u64).unwrap_or(0);
    let pods = (start..start.saturating_add(replicas)).map(|ordinal| {
        let mut subject = from_template(base.clone(), template);
        subject.name = format!("{}-{ordinal}", base.name);
        let Some(spec) = subject.object.get_mut("spec").and_then(Value::as_object_mut) else { return subject };
        let mut volumes = spec.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
        for claim_template in list {
            let volume = claim_template.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let claim = format!("{volume}-{}", subject.name);
            volumes.retain(|other| other.get("name").and_then(Value::as_str) != Some(volume));
            volumes.push(json!({"name": volume, "persistentVolumeClaim": {"claimName": claim}}));
            subject.claims.push(json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": claim, "namespace": base.namespace},
                "spec": claim_template.get("spec").cloned().unwrap_or_else(|| Value::Object(Map::new())),
            }));
        }
        spec.insert("volumes".into(), volumes.into());
        subject
    });
    pods.collect()
}

/// Everything in the object that looks like a pod template: custom resources have them too.
fn templates<'a>(value: &'a Value, depth: usize, found: &mut Vec<&'a Value>) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Object(fields) => {
            if depth > 0 && value.pointer("/spec/containers").is_some_and(Value::is_array) {
                found.push(value);
                return;
            }
            fields.values().for_each(|field| templates(field, depth + 1, found));
        }
        Value::Array(items) => items.iter().for_each(|item| templates(item, depth + 1, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(object: Value) -> Result<Vec<Subject>, String> {
        subjects(&object, "fallback")
    }

    fn template() -> Value {
        json!({"metadata": {"labels": {"a": "b"}, "name": "ignored"}, "spec": {"containers": [{"name": "c"}]}})
    }

    #[test]
    fn every_kind_that_makes_pods_is_seen() {
        for (version, kind, spec) in [
            ("apps/v1", "Deployment", json!({"template": template()})),
            ("apps/v1", "StatefulSet", json!({"template": template()})),
            ("apps/v1", "DaemonSet", json!({"template": template()})),
            ("apps/v1", "ReplicaSet", json!({"template": template()})),
            ("v1", "ReplicationController", json!({"template": template()})),
            ("batch/v1", "Job", json!({"template": template()})),
            ("batch/v1", "CronJob", json!({"jobTemplate": {"spec": {"template": template()}}})),
            ("ray.io/v1", "RayCluster", json!({"workerGroupSpecs": [{"template": template()}]})),
        ] {
            let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "n", "namespace": "ns"}, "spec": spec});
            let found = of(object).unwrap();
            assert_eq!(found.len(), 1, "{kind}");
            assert_eq!(
                (found[0].kind.as_str(), found[0].namespace.as_str(), found[0].name.as_str()),
                (kind, "ns", "n")
            );
            let metadata = json!({"labels": {"a": "b"}, "generateName": "n-", "namespace": "ns"});
            assert_eq!(found[0].object["metadata"], metadata, "{kind}");
            assert_eq!(found[0].object["spec"], template()["spec"], "{kind}");
        }
    }

    #[test]
    fn a_pod_is_itself_and_other_kinds_are_no_pods() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"x": 1}});
        let found = of(pod).unwrap();
        assert_eq!((found[0].namespace.as_str(), &found[0].object["spec"]), ("fallback", &json!({"x": 1})));
        assert_eq!(of(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "p"}})), Ok(vec![]));
    }

    #[test]
    fn claims_and_volumes_are_decided_on_too() {
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}});
        let found = of(claim).unwrap();
        assert_eq!((found[0].resource, found[0].namespace.as_str()), ("persistentvolumeclaims", "fallback"));
        let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"}});
        let found = of(volume.clone()).unwrap();
        assert_eq!((found[0].resource, found[0].namespace.as_str()), ("persistentvolumes", ""));
        assert_eq!(found[0].object, volume);
    }

    #[test]
    fn a_workload_without_a_template_is_an_error() {
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {}});
        assert_eq!(of(job), Err("Job \"j\" has no pod template at .spec.template".into()));
    }

    #[test]
    fn each_pod_of_a_statefulset_mounts_its_own_claims() {
        let set = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"},
            "spec": {
                "replicas": 2, "template": template(),
                "volumeClaimTemplates": [{"metadata": {"name": "w"}, "spec": {"volumeName": "pv"}}],
            },
        });
        let found = of(set).unwrap();
        assert_eq!(found.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["s-0", "s-1"]);
        let volume = json!([{"name": "w", "persistentVolumeClaim": {"claimName": "w-s-1"}}]);
        assert_eq!(found[1].object["spec"]["volumes"], volume);
        assert_eq!(found[1].claims[0]["metadata"], json!({"name": "w-s-1", "namespace": "fallback"}));
        assert_eq!(found[1].claims[0]["spec"], json!({"volumeName": "pv"}));
    }

    #[test]
    fn the_parts_of_an_inference_service_are_pods() {
        let found = of(json!({
            "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "llm", "namespace": "ns"},
            "spec": {
                "predictor": {
                    "minReplicas": 1, "serviceAccountName": "vllm", "annotations": {"a": "b"},
                    "model": {"modelFormat": {"name": "huggingface"}, "storageUri": "pvc://orion/v3", "resources": {"limits": {"nvidia.com/gpu": 1}}},
                },
                "transformer": {"containers": [{"name": "t"}]},
            },
        }))
        .unwrap();
        assert_eq!(found.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["llm-predictor", "llm-transformer"]);
        let spec = &found[0].object["spec"];
        assert_eq!(spec["serviceAccountName"], "vllm");
        assert_eq!(spec["volumes"][0]["persistentVolumeClaim"], json!({"claimName": "orion", "readOnly": true}));
        let container = &spec["containers"][0];
        assert_eq!(
            (&container["name"], &container["resources"]["limits"]["nvidia.com/gpu"]),
            (&json!("kserve-container"), &json!(1))
        );
        assert_eq!(container["volumeMounts"][0]["subPath"], "v3");
        assert_eq!(found[0].object["metadata"]["annotations"], json!({"a": "b"}));
        assert_eq!(found[1].object["spec"]["containers"], json!([{"name": "t"}]));
    }
}
