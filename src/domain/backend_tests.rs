use proptest::prelude::*;
use serde_json::json;

use super::*;

fn key(source: Value) -> String {
    of_volume_source(&source).unwrap().0
}

#[test]
fn keys_of_known_sources() {
    assert_eq!(
        key(json!({"csi": {"driver": "EBS.csi.aws.com", "volumeHandle": "vol-0A1b"}})),
        "v1:csi:ebs.csi.aws.com:vol-0A1b"
    );
    assert_eq!(
        key(json!({"nfs": {"server": "NAS.example.com.", "path": "/models//orion/./v3/"}})),
        "v1:nfs:nas.example.com:/models/orion/v3"
    );
    assert_eq!(key(json!({"nfs": {"server": "[FD00:0::1]", "path": "/a"}})), "v1:nfs:fd00::1:/a");
    assert_eq!(key(json!({"hostPath": {"path": "/srv/x/../models"}})), "v1:host:/srv/models");
    assert_eq!(key(json!({"local": {"path": "/srv/models/"}})), "v1:host:/srv/models");
    assert_eq!(key(json!({"hostPath": {"path": "/proc/1/root/var/run/models"}})), "v1:host:/run/models");
    assert_eq!(key(json!({"rbd": {"monitors": ["b", "A", "b"], "image": "i"}, "accessModes": []})), "v1:rbd:a,b:rbd:i");
}

#[test]
fn a_driver_that_goes_by_attributes_is_known_by_them() {
    let csi = |driver: &str, attributes: Value| json!({"csi": {"driver": driver, "volumeHandle": "any", "volumeAttributes": attributes}});
    let nfs = |attributes: Value| of_volume_source(&csi("NFS.csi.k8s.io", attributes));
    let in_tree = |path: &str| key(json!({"nfs": {"server": "nas.example.com", "path": path}}));
    assert_eq!(nfs(json!({"server": "NAS.example.com.", "share": "/models"})).unwrap().0, in_tree("/models"));
    assert_eq!(
        nfs(json!({"Server": "nas.example.com", "SHARE": "/models/", "subDir": "orion/v3"})).unwrap().0,
        in_tree("/models/orion/v3")
    );
    // What the driver would fill in is not known: the share stands for it.
    let filled = json!({"server": "nas.example.com", "share": "/models", "subdir": "${pvc.metadata.name}"});
    assert_eq!(nfs(filled).unwrap().0, in_tree("/models"));
    // An inline volume has no handle, and says as much.
    let inline = json!({"csi": {"driver": "nfs.csi.k8s.io", "volumeAttributes": {"server": "nas.example.com", "share": "/models"}}});
    assert_eq!(key(inline), in_tree("/models"));
    for (attributes, reason) in [
        (json!({"share": "/models"}), "csi.volumeAttributes.server is missing"),
        (json!({"server": "a", "Server": "b", "share": "/"}), "csi.volumeAttributes.server is given twice"),
        (json!({"server": "nas,x", "share": "/"}), "csi.volumeAttributes.server \"nas,x\" is neither a host name"),
        (json!({"server": "10.7", "share": "/"}), "csi.volumeAttributes.server \"10.7\" is neither a host name"),
        (json!({"server": "a/b", "share": "/"}), "csi.volumeAttributes.server \"a/b\" is neither a host name"),
    ] {
        let said = nfs(attributes).unwrap_err();
        assert!(said.starts_with(reason), "{said}");
    }
    let smb = |source: &str| key(csi("smb.csi.k8s.io", json!({"source": source, "subDir": "V3"})));
    assert_eq!(smb("//NAS/Models/Orion"), "v1:smb:nas:/models/orion/v3");
    assert_eq!(smb("\\\\nas\\models\\orion"), smb("//nas/models/orion/"));
    let share = BackendKey("v1:smb:nas:/models".into());
    assert!(share.overlaps(&BackendKey(smb("//nas/models/orion"))) && share.has_path());
}

#[test]
fn what_has_no_key_says_why() {
    let error = |source| of_volume_source(&source).unwrap_err();
    assert_eq!(
        error(json!({"csi": {"driver": "x"}})),
        "csi.volumeHandle is missing (driver \"x\"): an inline volume does not tell what is in it"
    );
    assert_eq!(error(json!({"nfs": {"server": "a", "path": "b"}})), "nfs.path \"b\" is not absolute");
    assert_eq!(error(json!({"quantumDisk": {}})), "the volume names no storage of a type that is known");
    assert_eq!(error(json!({"nfs": {}, "csi": {}})), "the volume names two kinds of storage: csi and nfs");
    assert_eq!(error(json!(7)), "the volume names no storage of a type that is known");
}

#[test]
fn overlap_is_by_steps() {
    let (models, orion, other) =
        (BackendKey::host("/models"), BackendKey::host("/models/orion"), BackendKey::host("/models-2"));
    assert!(models.overlaps(&orion) && orion.overlaps(&models) && models.overlaps(&models));
    assert!(!models.overlaps(&other) && BackendKey::host("/").overlaps(&other));
    assert!(!BackendKey::nfs("a", "/models").overlaps(&models));
    assert!(!BackendKey::nfs("a", "/models").overlaps(&BackendKey::nfs("b", "/models")));
    assert!(!BackendKey::csi("d", "vol-1").overlaps(&BackendKey::csi("d", "vol-11")));
    assert_eq!(models.relative(&orion).as_deref(), Some("orion"));
    assert_eq!(BackendKey::host("/").relative(&orion).as_deref(), Some("models/orion"));
    assert_eq!(orion.relative(&models), None);
}

#[test]
fn an_in_tree_disk_is_the_disk_of_its_csi_driver() {
    let in_tree = of_volume_source(&json!({"awsElasticBlockStore": {"volumeID": "aws://eu-1a/vol-7"}})).unwrap();
    assert_eq!(in_tree, BackendKey::csi("ebs.csi.aws.com", "vol-7"));
    let resource = "/subscriptions/s/resourceGroups/G/providers/Microsoft.Compute/disks/orion";
    for (source, driver, handle) in [
        (json!({"azureDisk": {"diskURI": resource.to_uppercase()}}), "disk.csi.azure.com", resource),
        (
            json!({"gcePersistentDisk": {"pdName": "orion"}}),
            "pd.csi.storage.gke.io",
            "projects/p/zones/europe-west1-b/disks/orion",
        ),
        (json!({"portworxVolume": {"volumeID": "orion"}}), "pxd.portworx.com", "orion"),
    ] {
        let (in_tree, csi) = (of_volume_source(&source).unwrap(), BackendKey::csi(driver, handle));
        assert!(in_tree.overlaps(&csi) && csi.overlaps(&in_tree), "{in_tree} {csi}");
        assert_eq!(in_tree.comparable(), csi.comparable());
        let other = BackendKey::csi(driver, &format!("{handle}-2"));
        assert!(!in_tree.overlaps(&other) && !csi.overlaps(&other), "{in_tree} {other}");
        assert!(!in_tree.overlaps(&BackendKey::csi("other.example.com", handle)));
    }
    let spelled = |handle: &str| BackendKey::csi("disk.csi.azure.com", handle);
    assert!(spelled(resource).overlaps(&spelled(&resource.to_lowercase())));
    for key in [BackendKey::csi("d", "a:b"), BackendKey::nfs("fd00::1", "/a"), BackendKey::host("/a")] {
        assert_eq!(key.comparable(), key);
    }
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", ".", "..", "", "proc", "1", "root", "var", "run"]), 0..7)
        .prop_map(|steps| format!("/{}", steps.join("/")))
}

fn any_key() -> impl Strategy<Value = BackendKey> {
    prop_oneof![
        path().prop_map(|p| BackendKey::host(&p)),
        (prop::sample::select(vec!["n", "N.", "::1", "[::1]"]), path()).prop_map(|(s, p)| BackendKey::nfs(s, &p)),
        ("[a-c]{1,2}", "[a-c:/]{0,4}").prop_map(|(d, h)| BackendKey::csi(&d, &h)),
        ".{0,12}".prop_map(BackendKey),
    ]
}

proptest! {
    #[test]
    fn canonicalisation_is_idempotent(p in path(), server in "[A-Za-z0-9.:\\[\\]]{1,12}") {
        let host = BackendKey::host(&p);
        prop_assert_eq!(BackendKey::host(host.host_path().unwrap()), host);
        let once = canonical_host(&server);
        prop_assert_eq!(canonical_host(&once), once);
        let once = canonical_path(&p);
        prop_assert_eq!(canonical_path(&once), once);
    }

    #[test]
    fn spellings_are_equal(steps in prop::collection::vec("[a-z]{1,4}", 1..5), server in "[a-z]{1,8}") {
        let plain = format!("/{}", steps.join("/"));
        let odd = format!("//{}/./x/../", steps.join("//./"));
        prop_assert_eq!(BackendKey::nfs(&server, &plain), BackendKey::nfs(&format!(" {}.", server.to_uppercase()), &odd));
        prop_assert_eq!(BackendKey::host(&plain), BackendKey::host(&odd));
    }

    #[test]
    fn overlap_is_reflexive_and_symmetric(a in any_key(), b in any_key()) {
        prop_assert!(a.overlaps(&a));
        prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
        prop_assert_eq!(a.overlaps(&b), a.relative(&b).is_some() || b.relative(&a).is_some());
    }
}

#[test]
fn references_of_images_have_one_spelling() {
    let repository = |text: &str| Reference::read(text).repository;
    for (text, expected) in [
        ("orion", "docker.io/library/orion"),
        ("orion:v3", "docker.io/library/orion"),
        ("models/orion:v3", "docker.io/models/orion"),
        ("docker.io/orion", "docker.io/library/orion"),
        ("index.docker.io/models/orion", "docker.io/models/orion"),
        ("Registry.example.com/models/orion:v3", "registry.example.com/models/orion"),
        ("registry.example.com:443/models/orion", "registry.example.com/models/orion"),
        ("registry.example.com:00443/models/orion", "registry.example.com/models/orion"),
        ("registry.example.com:05000/models/orion", "registry.example.com:5000/models/orion"),
        ("registry.example.com:5000/models/orion:v3", "registry.example.com:5000/models/orion"),
        ("localhost/orion", "localhost/orion"),
        (" registry.example.com/orion:v3@sha256:1 ", "registry.example.com/orion"),
    ] {
        assert_eq!(repository(text), expected, "{text}");
    }
    let keys = |text: &str| Reference::read(text).keys().into_iter().map(|key| key.0).collect::<Vec<_>>();
    assert_eq!(keys("r.example.com/m:v3@sha256:1"), ["v1:image:sha256:1", "v1:repository:r.example.com/m"]);
    assert_eq!(keys("r.example.com/m:v3"), ["v1:repository:r.example.com/m"]);
    assert_eq!(keys("sha256:1")[0], "v1:image:sha256:1");
    for (text, expected) in
        [("sha256:1", true), (" sha256:1", true), ("x@sha256:1", false), ("sha256", false), ("sha256:1/x", false)]
    {
        assert_eq!(is_id(text), expected, "{text}");
    }
    assert!(BackendKey::image("sha256:1").is_image() && BackendKey::repository("m").is_image());
    assert!(!BackendKey::host("/m").is_image());
}
