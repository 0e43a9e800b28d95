//! The mutation of new pods. It only adds what the rules ask for where nothing contradicts them; what does is left for
//! [`super::decide`] to refuse. Shaping what was shaped changes nothing.

use serde_json::{Value, json};

use super::assessment::Assessment;
use super::pod::{Container, Object, object};
use super::verifier::{self, Plan, REVERIFIER, VERIFIER};
use crate::api::Mode;
use crate::domain::carrier;
use crate::domain::world::{EGRESS_BANDWIDTH, Environment};

/// Which aspects are put into effect.
#[derive(Clone, Copy)]
pub(super) struct Aspects {
    /// Read-only mounts, seccomp, NET_RAW.
    pub hardening: bool,
    /// The verifier.
    pub verifier: bool,
    /// The bandwidth annotation.
    pub egress: bool,
}

impl Aspects {
    /// What the modes of an environment put into effect.
    pub fn of(environment: &Environment) -> Self {
        Self {
            hardening: environment.modes.admission == Mode::Enforce,
            verifier: environment.modes.verification == Mode::Enforce,
            egress: environment.modes.egress == Mode::Enforce,
        }
    }
}

/// The value of the bandwidth annotation in an environment, where it limits.
pub(super) fn bandwidth(environment: &Environment) -> Option<String> {
    if environment.modes.egress != Mode::Enforce {
        return None;
    }
    let rate = environment.egress_rate?;
    let (amount, unit) = match rate {
        r if r >= 1_000_000_000 && r % 1_000_000_000 == 0 => (r / 1_000_000_000, "G"),
        r if r >= 1_000_000 && r % 1_000_000 == 0 => (r / 1_000_000, "M"),
        r if r >= 1_000 && r % 1_000 == 0 => (r / 1_000, "k"),
        r => (r, ""),
    };
    Some(format!("{amount}{unit}"))
}

/// The pod as it should be.
pub(super) fn apply(assessment: &Assessment<'_>, root: &Value, aspects: Aspects) -> Value {
    let mut shaped = root.clone();
    if aspects.egress
        && let Some(rate) = assessment.environment().and_then(bandwidth)
    {
        annotate(&mut shaped, EGRESS_BANDWIDTH, &rate);
    }
    if !assessment.holds_weights() {
        return shaped;
    }
    let plan = verifier::plan(assessment);
    let Some(spec) = shaped.get_mut("spec").and_then(Value::as_object_mut) else { return shaped };
    if aspects.verifier && !plan.is_empty() {
        inject(assessment, &plan, spec);
    }
    if aspects.hardening {
        let has_seccomp = assessment.pod.security().is_some_and(|s| object(s, "seccompProfile").is_some());
        for field in ["initContainers", "containers", "ephemeralContainers"] {
            for container in spec.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
                let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
                let init = field == "initContainers";
                let own = assessment.pod.containers.iter().find(|c| c.kind.is_init() == init && c.name == name);
                harden(assessment, container, own, has_seccomp);
            }
        }
    }
    shaped
}

fn annotate(root: &mut Value, name: &str, value: &str) {
    let Some(root) = root.as_object_mut() else { return };
    if let Some(metadata) = entry(root, "metadata")
        && let Some(annotations) = entry(metadata, "annotations")
    {
        annotations.insert(name.to_owned(), value.into());
    }
}

/// The object in a field, made where there is none.
fn entry<'a>(of: &'a mut Object, field: &str) -> Option<&'a mut Object> {
    let value = of.entry(field).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Object::new());
    }
    value.as_object_mut()
}

/// Puts the verifier ahead of everything but the leading containers that are trusted and mount no weights, or that fetch
/// them, and right behind it
/// the sidecar that verifies again.
fn inject(assessment: &Assessment<'_>, plan: &Plan<'_>, spec: &mut Object) {
    carry(plan, spec);
    let inits: Vec<_> = assessment.pod.containers.iter().filter(|c| c.kind.is_init()).collect();
    let again = assessment.environment().and_then(|environment| environment.reverify.as_ref());
    let wanted = [
        (VERIFIER, Some(verifier::render(assessment, plan))),
        (REVERIFIER, again.map(|how| verifier::render_again(assessment, plan, how))),
    ];
    let mut ours = Vec::new();
    for (name, rendered) in wanted {
        let existing = inits.iter().find(|c| c.name == name);
        // Someone else's container is refused, not replaced behind its author's back.
        if existing.is_some_and(|existing| existing.image != assessment.world.settings.verifier_image) {
            continue;
        }
        if let Some(mut rendered) = rendered {
            if let Some(existing) = existing {
                keep(assessment, existing.raw, &mut rendered);
            }
            ours.push((name, Some(rendered)));
        } else {
            ours.push((name, None));
        }
    }
    let ahead = inits
        .iter()
        .filter(|c| !ours.iter().any(|(name, _)| *name == c.name))
        .take_while(|c| {
            (assessment.trusts(c.image) || assessment.is_downloader(c))
                && !assessment.reads_weights(c)
                && c.name != VERIFIER
        })
        .count();
    let list = spec.entry("initContainers").or_insert(Value::Null);
    if list.is_null() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else { return };
    list.retain(|c| !ours.iter().any(|(name, _)| c.get("name").and_then(Value::as_str) == Some(name)));
    let rendered = ours.into_iter().filter_map(|(_, rendered)| rendered);
    for (offset, container) in rendered.enumerate() {
        list.insert((ahead + offset).min(list.len()), Value::Object(container));
    }
}

/// Puts the volume with manifests in, or takes one of another pod out. Someone else's volume is refused, not replaced.
fn carry(plan: &Plan<'_>, spec: &mut Object) {
    let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) else { return };
    let named = |volume: &Value| volume.get("name").and_then(Value::as_str) == Some(carrier::VOLUME);
    if volumes.iter().any(|volume| named(volume) && !verifier::is_carrier(volume)) {
        return;
    }
    let rendered = verifier::render_volume(plan);
    // In its place, so that shaping again changes nothing.
    let position = volumes.iter().position(&named).unwrap_or(volumes.len());
    volumes.retain(|volume| !named(volume));
    if let Some(rendered) = rendered {
        volumes.insert(position.min(volumes.len()), rendered);
    }
}

/// Keeps what others added to a verifier that was injected before.
fn keep(assessment: &Assessment<'_>, existing: &Object, rendered: &mut Object) {
    for field in ["resources", "resizePolicy", "imagePullPolicy", "terminationMessagePolicy"] {
        if let Some(value) = existing.get(field) {
            rendered.insert(field.into(), value.clone());
        }
    }
    if let Some(variables) = existing.get("env").and_then(Value::as_array) {
        let kept: Vec<Value> = variables.iter().filter(|v| verifier::is_harmless_variable(v)).cloned().collect();
        if !kept.is_empty() {
            rendered.insert("env".into(), kept.into());
        }
    }
    let added = existing.get("volumeMounts").and_then(Value::as_array).into_iter().flatten().filter(|mount| {
        mount.as_object().is_some_and(|m| verifier::is_added_mount(m, |volume| assessment.is_weights(volume)))
    });
    if let Some(mounts) = rendered.get_mut("volumeMounts").and_then(Value::as_array_mut) {
        mounts.extend(added.cloned());
    }
}

/// `own` is the container as the author wrote it; a verifier has none.
fn harden(assessment: &Assessment<'_>, container: &mut Value, own: Option<&Container<'_>>, pod_has_seccomp: bool) {
    let Some(container) = container.as_object_mut() else { return };
    for mount in container.get_mut("volumeMounts").and_then(Value::as_array_mut).into_iter().flatten() {
        let fetched = |volume: &str| own.is_some_and(|own| assessment.downloads_into(own, volume));
        let only_read = mount
            .get("name")
            .and_then(Value::as_str)
            .is_some_and(|volume| assessment.only_read(volume) && !fetched(volume));
        if only_read && let Some(mount) = mount.as_object_mut() {
            mount.insert("readOnly".into(), true.into());
        }
    }
    let Some(security) = entry(container, "securityContext") else { return };
    if !pod_has_seccomp && object(security, "seccompProfile").is_none() {
        security.insert("seccompProfile".into(), json!({"type": "RuntimeDefault"}));
    }
    if !verifier::drops(Some(security), "NET_RAW")
        && let Some(capabilities) = entry(security, "capabilities")
    {
        let list = capabilities.entry("drop").or_insert(Value::Null);
        if list.is_null() {
            *list = json!([]);
        }
        if let Some(list) = list.as_array_mut() {
            list.push("NET_RAW".into());
        }
    }
}
