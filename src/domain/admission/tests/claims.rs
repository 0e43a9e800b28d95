//! WL-111 and WL-112: claims that are not bound, not there, or copies.

use super::support::*;
use crate::domain::backend::BackendKey;
use crate::domain::world::{DataSource, Volume};

#[test]
fn wl_111_absent_claims_and_volumes() {
    let mut world = small();
    refused(&admit(&world, "serving", &ordinary("nowhere")), &["WL-111"], "PVC \"nowhere\" does not exist");
    passes(&admit(&world, "research", &ordinary("nowhere")));
    world.volumes.remove("pv-scratch");
    refused(
        &admit(&world, "serving", &ordinary("scratch")),
        &["WL-111"],
        "PersistentVolume \"pv-scratch\" does not exist",
    );
    passes(&admit(&small(), "serving", &ordinary("scratch")));
}

#[test]
fn wl_111_an_unbound_claim_passes_unless_it_may_bind_to_weights() {
    let mut world = small();
    passes(&admit(&world, "serving", &ordinary("fresh")));
    let key = Ok(BackendKey::csi("ebs.csi.aws.com", "vol-1"));
    // A volume of weights that nobody claims could be bound to it.
    world.volumes.insert("pv-free".into(), Volume { key: key.clone(), claim: None });
    refused(&admit(&world, "serving", &ordinary("fresh")), &["WL-111"], "may be bound to PersistentVolume \"pv-free\"");
    // Reserved for another claim it cannot.
    world.volumes.insert("pv-free".into(), Volume { key: key.clone(), claim: Some(claim("serving", "other")) });
    passes(&admit(&world, "serving", &ordinary("fresh")));
    // Reserved for this one the claim is weights, and the pod gets a verifier.
    world.volumes.insert("pv-free".into(), Volume { key, claim: Some(claim("serving", "fresh")) });
    let pod = shaped(&world, "serving", &ordinary("fresh"));
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "weightlock-verify");
}

/// The binder passes over a reservation that does not fit, and over one of an earlier claim of that name.
#[test]
fn wl_111_an_unbound_claim_may_bind_to_weights_although_a_volume_is_reserved_for_it() {
    let mut world = small();
    let fresh = claim("serving", "fresh");
    world.volumes.get_mut("pv-scratch").unwrap().claim = Some(fresh.clone());
    passes(&admit(&world, "serving", &ordinary("fresh")));
    let key = Ok(BackendKey::csi("ebs.csi.aws.com", "vol-1"));
    world.volumes.insert("pv-free".into(), Volume { key, claim: None });
    refused(&admit(&world, "serving", &ordinary("fresh")), &["WL-111"], "may be bound to PersistentVolume \"pv-free\"");
    // One that names its volume gets that or none.
    world.claims.get_mut(&fresh).unwrap().volume = Some("pv-scratch".into());
    passes(&admit(&world, "serving", &ordinary("fresh")));
}

#[test]
fn wl_111_data_sources_that_cannot_be_followed() {
    let mut world = small();
    let source = |kind: &str, name: &str| {
        Some(Box::new(DataSource { kind: kind.into(), namespace: "serving".into(), name: name.into() }))
    };
    let fresh = claim("serving", "fresh");
    world.claims.get_mut(&fresh).unwrap().data_source = source("VolumeSnapshot", "s");
    refused(&admit(&world, "serving", &ordinary("fresh")), &["WL-111"], "VolumeSnapshot serving/s");
    world.claims.get_mut(&fresh).unwrap().data_source = source("PersistentVolumeClaim", "scratch");
    passes(&admit(&world, "serving", &ordinary("fresh")));
    world.claims.get_mut(&fresh).unwrap().data_source = source("PersistentVolumeClaim", "fresh");
    refused(&admit(&world, "serving", &ordinary("fresh")), &["WL-111"], "too many clones");
}

#[test]
fn wl_112_clones_of_weights() {
    let mut world = small();
    let source = DataSource { kind: "PersistentVolumeClaim".into(), namespace: "serving".into(), name: "orion".into() };
    world.claims.get_mut(&claim("serving", "fresh")).unwrap().data_source = Some(Box::new(source));
    refused(
        &admit(&world, "serving", &ordinary("fresh")),
        &["WL-112"],
        "unregistered copy of WeightArtifact \"orion\"",
    );
}
