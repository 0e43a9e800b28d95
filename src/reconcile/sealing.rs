//! Whether an artifact is sealed, and who still writes it.

use super::{Context, conditions::Wanted, members::name_some};
use crate::domain::{admission, consumers, world::Artifact};

/// The pods that run and can write the storage of an artifact.
pub fn writers(context: &Context, artifact: &Artifact) -> Vec<String> {
    let world = &context.world;
    let pods = context.pods_with(&artifact.name).iter().filter_map(|key| Some((key, world.pods.get(key)?.unpack())));
    pods.filter(|(_, pod)| !consumers::stopped(pod))
        .filter_map(|((namespace, name), pod)| {
            Some(format!("pod {namespace}/{name}, {}", admission::writes(world, namespace, &pod, &artifact.name)?))
        })
        .collect()
}

/// Whether nobody writes the artifact any more.
pub fn condition(artifact: &Artifact, writers: &[String]) -> Wanted {
    const KIND: &str = "Sealed";
    match (artifact.sealed(), artifact.frozen, writers) {
        (true, _, []) => Wanted::yes(
            KIND,
            "Sealed",
            "The content is pinned by spec.manifestDigest, and no pod that runs can write it.",
        ),
        (true, _, writers) => {
            let text = format!(
                "Pods that run can write the storage of the sealed weights: {}. Remedy: delete these pods. What they change is found when the weights are verified next.",
                name_some(writers)
            );
            Wanted::no(KIND, "WriterRunning", text)
        }
        (false, true, []) => Wanted::no(
            KIND,
            "Frozen",
            "Nobody writes the weights; spec.manifestDigest is not set yet (kubectl weightlock seal sets it).",
        ),
        (false, true, writers) => Wanted::no(
            KIND,
            "Freezing",
            format!("Pods that write still run: {}. No new one starts.", name_some(writers)),
        ),
        (false, false, _) => Wanted::no(
            KIND,
            "Open",
            "Pods of its producers (spec.producers) may write the weights, and nobody else mounts them, until they are sealed.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::world::Manifest;

    #[test]
    fn what_runs_and_writes_sealed_weights_is_named() {
        let artifact = |digest: Option<&str>, frozen| Artifact {
            name: "orion".into(),
            digest: digest.map(Into::into),
            manifest: Manifest::Path("m".into()),
            signature: None,
            content: Default::default(),
            locations: vec![],
            permitted: Default::default(),
            producers: vec![],
            frozen,
            effort: None,
            contact: String::new(),
        };
        let writer = ["pod lab/train-0, container \"t\" (volume \"w\")".to_string()];
        let of = |digest, frozen, writers: &[String]| condition(&artifact(digest, frozen), writers);
        assert_eq!(of(None, false, &writer).reason, "Open");
        assert_eq!(of(None, true, &writer).reason, "Freezing");
        assert_eq!(of(None, true, &[]).reason, "Frozen");
        assert!(of(Some("sha256:0"), true, &[]).holds());
        let written = of(Some("sha256:0"), true, &writer);
        assert_eq!((written.reason, written.holds()), ("WriterRunning", false));
        assert!(written.message.contains("pod lab/train-0, container \"t\""), "{}", written.message);
    }
}
