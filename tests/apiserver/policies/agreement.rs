//! What the policies say in CEL of keys and overlap is what `domain::backend` says in Rust.

use serde_json::{Value, json};
use weightlock::domain::backend;

use super::fixture::{DRIVER, Fixture, azure_disk, fixture, persistent_volume};
use crate::harness;

fn sources(f: &Fixture) -> Vec<Value> {
    let (nas, run, handle) = (f.nas(), &f.run, f.handle());
    let mut sources = Vec::new();
    for (driver, volume) in [
        (DRIVER, handle.clone()),
        ("CSI.Example.com", handle.clone()),
        (DRIVER, format!("{handle}1")),
        ("other.example.com", handle.clone()),
        ("ebs.csi.aws.com", format!("vol-aws-{run}")),
        ("ebs.csi.aws.com", format!("vol-other-{run}")),
    ] {
        sources.push(json!({"csi": {"driver": driver, "volumeHandle": volume}}));
    }
    for path in [
        "/models/orion",
        "/models/orion/",
        "//models//orion",
        "/models/./orion/.",
        "/models/orion/v3",
        "/models",
        "/",
        "//",
        "/models/orion-2",
        "/models/ori",
        "/other",
    ] {
        sources.push(json!({"nfs": {"server": nas, "path": path}}));
    }
    for server in [nas.to_uppercase(), format!("{nas}."), format!("x{nas}"), format!("{nas}.other")] {
        sources.push(json!({"nfs": {"server": server, "path": "/models/orion"}}));
    }
    for server in ["fd00::7", "FD00::7", "fd00:0:0::7", "[fd00::7]", "fd00::8", "10.0.0.7"] {
        sources.push(json!({"nfs": {"server": server, "path": format!("/{run}")}}));
    }
    let directory = f.directory();
    for path in [
        directory.clone(),
        format!("{directory}/"),
        format!("{directory}/sub"),
        format!("/srv//{run}/./orion"),
        format!("/srv/{run}"),
        "/srv".into(),
        "/".into(),
        format!("{directory}-2"),
        format!("/srv2/{run}/orion"),
        format!("/run/{run}"),
        format!("/var/run/{run}"),
        format!("/var//run/{run}/x"),
        "/var/run".into(),
        format!("/var/running/{run}"),
        format!("/proc/1/root/srv/{run}/orion"),
    ] {
        sources.push(json!({"hostPath": {"path": path}}));
        sources.push(json!({"local": {"path": path}}));
    }
    for id in [format!("vol-aws-{run}"), format!("aws://eu-central-1a/vol-aws-{run}"), format!("vol-{run}")] {
        sources.push(json!({"awsElasticBlockStore": {"volumeID": id}}));
    }
    for name in [format!("orion-{run}"), format!("other-{run}")] {
        let uri = azure_disk(&name);
        sources.push(json!({"azureDisk": {"diskName": "d", "diskURI": uri, "kind": "Managed"}}));
        sources.push(json!({"gcePersistentDisk": {"pdName": name}}));
        for handle in [azure_disk(&name), azure_disk(&name).to_lowercase()] {
            sources.push(json!({"csi": {"driver": "disk.csi.azure.com", "volumeHandle": handle}}));
        }
        for handle in ["projects/p/zones/z/disks", "projects/UNSPECIFIED/zones/UNSPECIFIED/disks"] {
            let handle = format!("{handle}/{name}");
            sources.push(json!({"csi": {"driver": "pd.csi.storage.gke.io", "volumeHandle": handle}}));
        }
    }
    for (server, share, directory) in [
        (nas.clone(), "/models/orion", ""),
        (nas.clone(), "/models", "orion"),
        (nas.to_uppercase(), "/models/", "/orion/v3/"),
        (format!("{nas}."), "/", "models"),
        (nas.clone(), "/models", "orion-2"),
        (nas.clone(), "/models", "${pvc.metadata.name}"),
        (nas.clone(), "/other", "${pvc.metadata.name}"),
        (format!("x{nas}"), "/models/orion", ""),
    ] {
        let attributes = json!({"Server": server, "share": share, "subDir": directory});
        sources.push(json!({"csi": {"driver": "nfs.csi.k8s.io", "volumeHandle": "h", "volumeAttributes": attributes}}));
    }
    for (source, directory) in [
        ("//nas/models", "orion"),
        ("//NAS/models/Orion", ""),
        ("\\\\nas\\models", "V3"),
        ("//nas/models-2", "orion"),
        ("//nas", "models"),
        ("//other/models", ""),
    ] {
        let attributes = json!({"source": source.replace("models", &format!("models-{run}")), "subDir": directory});
        sources.push(json!({"csi": {"driver": "SMB.csi.k8s.io", "volumeHandle": "h", "volumeAttributes": attributes}}));
    }
    for id in [f.handle(), format!("{}-2", f.handle())] {
        sources.push(json!({"portworxVolume": {"volumeID": id}}));
    }
    sources
}

#[tokio::test]
async fn cel_and_rust_agree_on_which_storage_is_registered() {
    let (client, f) = (harness::client().await, fixture().await);
    let mut wrong = Vec::new();
    let (mut refused, mut accepted) = (0, 0);
    for source in sources(f) {
        let key = backend::of_volume_source(&source).expect("a key");
        let artifacts = f.world.artifacts_at(&key);
        let registered = artifacts.iter().any(|artifact| artifact.permitted.contains("inference"));
        let answer = harness::try_create(&client, &persistent_volume(f, source.clone(), &f.outside)).await;
        match (&answer, registered) {
            (Err(said), true) if said.contains("[WL-112]") => refused += 1,
            (Ok(_), false) => accepted += 1,
            _ => wrong.push(format!("{source}: key {key}, registered: {registered}, answer: {answer:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refused > 20 && accepted > 10, "{refused} refused, {accepted} accepted");
}

/// Spellings that CEL cannot bring into the canonical form are refused rather than compared.
#[tokio::test]
async fn what_cannot_be_compared_is_refused() {
    let (client, f) = (harness::client().await, fixture().await);
    for source in [
        json!({"nfs": {"server": f.nas(), "path": "/models/x/../orion"}}),
        json!({"nfs": {"server": "other.example.com", "path": "/a/.."}}),
        json!({"nfs": {"server": "::ffff:10.0.0.7", "path": "/a"}}),
        json!({"nfs": {"server": "0:0:0:0:0:ffff:a00:7", "path": "/a"}}),
        json!({"nfs": {"server": format!("{},x", f.nas()), "path": "/models/orion"}}),
        json!({"nfs": {"server": "10.7", "path": "/a"}}),
        json!({"nfs": {"server": "167772167", "path": "/a"}}),
        json!({"nfs": {"server": "0x0a.0.0.7", "path": "/a"}}),
        json!({"nfs": {"server": "012.0.0.7", "path": "/a"}}),
        json!({"awsElasticBlockStore": {"volumeID": "aws://us-east-1a/vol-0atk/"}}),
        json!({"awsElasticBlockStore": {"volumeID": "aws://us-east-1a/vol-0atk?x"}}),
        json!({"awsElasticBlockStore": {"volumeID": "aws://us-east-1a/vol%2D0atk"}}),
        json!({"csi": {"driver": "nfs.csi.k8s.io", "volumeHandle": "h", "volumeAttributes": {"server": f.nas(), "share": "/zz", "subdir": "${pvc.metadata.name}/../../models/orion"}}}),
        json!({"hostPath": {"path": "/proc/self/root/elsewhere"}}),
        json!({"hostPath": {"path": format!("/proc/1/cwd{}", f.directory())}}),
        json!({"hostPath": {"path": format!("//proc/1/task/1/./cwd/{}", f.directory())}}),
        json!({"azureFile": {"secretName": "s", "shareName": "other"}}),
        json!({"vsphereVolume": {"volumePath": "[store] other.vmdk"}}),
        json!({"local": {"path": "/proc/self/fd/7"}}),
        json!({"hostPath": {"path": "/dev/fd/7"}}),
        json!({"csi": {"driver": "nfs.csi.k8s.io", "volumeHandle": "h"}}),
        json!({"csi": {"driver": "nfs.csi.k8s.io", "volumeHandle": "h", "volumeAttributes": {"server": "x", "Server": "y", "share": "/"}}}),
        json!({"csi": {"driver": "nfs.csi.k8s.io", "volumeHandle": "h", "volumeAttributes": {"server": f.nas(), "share": "/models", "subdir": "x/../orion"}}}),
        json!({"csi": {"driver": "smb.csi.k8s.io", "volumeHandle": "h", "volumeAttributes": {"source": "//"}}}),
    ] {
        let answer = harness::try_create(&client, &persistent_volume(f, source.clone(), &f.outside)).await;
        super::assert_refused(&answer, &["[WL-112]", "cannot be told from WeightArtifact"]);
        super::assert_accepted(&harness::try_create(&client, &persistent_volume(f, source, &f.inside)).await);
    }
}
