//! WL-306: who writes weights while they are open, and that nobody does once they are sealed.

use serde_json::json;

use super::support::*;

#[test]
fn wl_306_sealed_weights_have_no_writer() {
    const READ_ONLY: &str = "/spec/containers/0/volumeMounts/0/readOnly";
    let sealed = with_run(|a| {
        a.digest = Some(DIGEST.into());
        a.permitted.insert("training".into());
    });
    // What it wrote yesterday is not made read-only behind its back.
    let decision = admit(&sealed, "lab", &trainer());
    refused(&decision, &["WL-306"], "WeightArtifact \"run\" is in it and is sealed");
    passes(&admit(&sealed, "lab", &set(trainer(), READ_ONLY, json!(true))));
    // Who is no producer reads, as ever.
    let mut readers = sealed.clone();
    readers.environments.get_mut("training").unwrap().members[0].service_accounts.insert("viewer".into());
    passes(&admit(&readers, "lab", &set(trainer(), "/spec/serviceAccountName", json!("viewer"))));
    // Where it is not permitted, its producers have lost it.
    let lost = with_run(|a| a.digest = Some(DIGEST.into()));
    assert_eq!(ids(&admit(&lost, "lab", &trainer())), ["WL-101", "WL-306"]);
}

#[test]
fn wl_306_open_weights_are_written_by_their_producers_only() {
    let mut world = making();
    world.environments.get_mut("training").unwrap().members[0].service_accounts.insert("viewer".into());
    let decision = admit(&world, "lab", &set(trainer(), "/spec/serviceAccountName", json!("viewer")));
    assert_eq!(ids(&decision), ["WL-104", "WL-306"]);
    assert!(decision.violations[1].fact.contains("is open, and this pod is none of its producers"));
    // One volume with sealed and open weights has no writer.
    let mut shared = making();
    let mut base = shared.artifacts["run"].clone();
    base.name = "base".into();
    base.digest = Some(DIGEST.into());
    base.permitted.insert("training".into());
    shared.artifacts.insert("base".into(), base);
    refused(&admit(&shared, "lab", &trainer()), &["WL-306"], "WeightArtifact \"base\" is in it and is sealed");
}

#[test]
fn wl_306_nobody_writes_while_it_is_sealed_but_the_job_that_seals() {
    let world = with_run(|a| a.frozen = true);
    refused(&admit(&world, "lab", &trainer()), &["WL-306"], "is being sealed (spec.writes: Frozen)");
    passes(&admit(&world, "lab", &set(trainer(), "/spec/containers/0/volumeMounts/0/readOnly", json!(true))));
    let image = json!(&world.settings.verifier_image);
    let job = set(trainer(), "/spec/containers/0/image", image.clone());
    let job = set(job, "/spec/containers/0/args", json!(["digest", "--root", "/models", "--write-manifest"]));
    passes(&admit(&world, "lab", &job));
    for (pointer, value) in [
        ("/spec/containers/0/command", json!(["/bin/sh"])),
        ("/spec/containers/0/args", json!(["verify"])),
        ("/spec/containers/0/image", json!("x")),
        ("/spec/containers/0/env", json!([{"name": "LD_PRELOAD", "value": "x"}])),
    ] {
        let other = admit(&world, "lab", &set(job.clone(), pointer, value));
        refused(&other, &["WL-306"], "is being sealed");
    }
    let second = json!({"name": "second", "image": image, "args": ["digest"]});
    assert_eq!(ids(&admit(&world, "lab", &set(job, "/spec/containers/-", second))), ["WL-306"]);
}

#[test]
fn a_job_reads_sealed_weights_and_writes_open_ones() {
    let mut world = making();
    let mut base = world.artifacts["orion"].clone();
    base.permitted.insert("training".into());
    world.artifacts.insert("orion".into(), base);
    bind(&mut world, "lab", "base", "pv-base", "vol-1");
    let mount = json!({"name": "base", "mountPath": "/base"});
    let volume = json!({"name": "base", "persistentVolumeClaim": {"claimName": "base"}});
    let tune = set(set(trainer(), "/spec/containers/0/volumeMounts/-", mount), "/spec/volumes/-", volume);
    passes(&admit(&world, "lab", &tune));
    let made = shaped(&world, "lab", &tune);
    // The base is verified and read-only, the product is neither.
    assert_eq!(
        made["spec"]["initContainers"][0]["volumeMounts"],
        json!([{"name": "base", "mountPath": "/weightlock/0", "readOnly": true}])
    );
    assert_eq!(made["spec"]["containers"][0]["volumeMounts"][0].get("readOnly"), None);
    assert_eq!(made["spec"]["containers"][0]["volumeMounts"][1]["readOnly"], json!(true));
}
