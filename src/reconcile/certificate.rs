//! The authority and the serving certificate of the webhook, issued and rotated by the leader.
//!
//! They are in two Secrets of Weightlock's own namespace: the authority where only the controller reads it, the serving
//! certificate where the webhook's pods mount it. [`step::next_step`] decides; this file reads, makes and writes.

mod pki;
pub mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ObjectMeta;
use time::OffsetDateTime;

use self::pki::Pair;
use self::step::{CertificateId, State, Step};
use super::Context;
use super::apply::ObjectId;
use super::error::ReconcileError;
use crate::domain::settings::{AUTHORITY_SECRET, SERVING_SECRET};
use crate::render::webhook_configuration::SERVICE_NAME;
use crate::render::{INSTALLATION, MANAGED_BY, OWNER};

/// How many steps one run may take. A rotation takes three.
const STEPS: usize = 8;

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Every webhook configuration has to trust this bundle (PEM) before there is a next step.
    Publish(String),
    /// The bundle (PEM) stands; look again at the given time.
    Settled(String, Instant),
}

/// Takes the steps that can be taken now. `published` is what every webhook configuration trusts, `None` where there is none.
///
/// # Errors
/// If a Secret cannot be read or written, or a certificate cannot be made.
pub async fn advance(
    context: &Context,
    published: Option<BTreeSet<CertificateId>>,
) -> Result<Progress, ReconcileError> {
    let names = pki::names(&context.world.settings.own_namespace, SERVICE_NAME);
    let mut material = read(context).await?;
    for _ in 0..STEPS {
        let now = OffsetDateTime::now_utc();
        let step = step::next_step(now.unix_timestamp(), &material.state(&names, published.clone()));
        match step {
            Step::Publish => return Ok(Progress::Publish(material.bundle())),
            Step::Wait(until) => {
                let wait = u64::try_from(until - now.unix_timestamp()).unwrap_or(0);
                return Ok(Progress::Settled(material.bundle(), Instant::now() + Duration::from_secs(wait)));
            }
            _ => {}
        }
        tracing::info!(?step, "webhook certificates");
        let object = ObjectId::new("Secret", Some(&context.world.settings.own_namespace), AUTHORITY_SECRET);
        material
            .take(&step, &names, now)
            .map_err(|error| ReconcileError::Plan { object, reason: error.to_string() })?;
        context.writer.apply(&material.authority_secret(&context.world.settings.own_namespace)).await?;
        if step == Step::IssueLeaf {
            context.writer.apply(&material.serving_secret(&context.world.settings.own_namespace)).await?;
        }
    }
    let object = ObjectId::new("Secret", Some(&context.world.settings.own_namespace), SERVING_SECRET);
    Err(ReconcileError::Plan { object, reason: format!("the certificates did not settle in {STEPS} steps") })
}

/// The certificates that a bundle trusts.
pub fn trusted(bundle: &[u8]) -> BTreeSet<CertificateId> {
    let bundle = String::from_utf8_lossy(bundle);
    pki::each(&bundle).iter().filter_map(|pem| pki::validity(pem)).map(|v| v.id).collect()
}

/// What is in the two Secrets. A part that is missing is absent.
#[derive(Clone, Debug, Default)]
struct Material {
    signer: Option<Pair>,
    next: Option<Pair>,
    retired: Vec<String>,
    leaf: Option<Pair>,
    leaf_issuer: Option<String>,
}

async fn read(context: &Context) -> Result<Material, ReconcileError> {
    let namespace = &context.world.settings.own_namespace;
    let api: Api<Secret> = Api::namespaced(context.writer.client().clone(), namespace);
    let get = async |name: &str| {
        let secret = api
            .get_opt(name)
            .await
            .map_err(|error| ReconcileError::api("get", ObjectId::new("Secret", Some(namespace), name), error))?;
        Ok(secret.and_then(|secret| secret.data).unwrap_or_default())
    };
    Ok(Material::of(&get(AUTHORITY_SECRET).await?, &get(SERVING_SECRET).await?))
}

type Data = BTreeMap<String, ByteString>;

impl Material {
    fn of(authority: &Data, serving: &Data) -> Self {
        let text = |data: &Data, key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
        let pair = |data: &Data, certificate: &str, key: &str| {
            Some(Pair { certificate: text(data, certificate)?, key: text(data, key)? })
        };
        Self {
            signer: pair(authority, "ca.crt", "ca.key"),
            next: pair(authority, "next.crt", "next.key"),
            retired: text(authority, "retired.crt").map(|pem| pki::each(&pem)).unwrap_or_default(),
            leaf: pair(serving, "tls.crt", "tls.key"),
            leaf_issuer: text(serving, "ca.crt"),
        }
    }

    fn state(&self, names: &[String], published: Option<BTreeSet<CertificateId>>) -> State {
        State {
            signer: self.signer.as_ref().and_then(pki::usable_authority),
            next: self.next.as_ref().and_then(pki::usable_authority),
            retired: self.retired.iter().filter_map(|pem| pki::validity(pem)).collect(),
            leaf: self
                .leaf
                .as_ref()
                .zip(self.leaf_issuer.as_ref())
                .and_then(|(leaf, issuer)| pki::usable_leaf(leaf, issuer, names)),
            published,
        }
    }

    /// What has to be trusted, each certificate once, the one that signs first.
    fn bundle(&self) -> String {
        let mut seen = BTreeSet::new();
        let own = self.signer.iter().chain(&self.next).map(|pair| &pair.certificate);
        own.chain(&self.retired)
            .chain(&self.leaf_issuer)
            .flat_map(|pem| pki::each(pem))
            .filter(|pem| seen.insert(pem.clone()))
            .collect()
    }

    fn take(&mut self, step: &Step, names: &[String], now: OffsetDateTime) -> Result<(), rcgen::Error> {
        match step {
            Step::CreateAuthority => {
                self.signer = Some(pki::authority(now)?);
                self.next = None;
            }
            Step::PrepareAuthority => self.next = Some(pki::authority(now)?),
            Step::Promote => {
                self.retired.extend(self.signer.take().map(|pair| pair.certificate));
                self.signer = self.next.take();
            }
            Step::IssueLeaf => {
                if let Some(signer) = &self.signer {
                    self.leaf = Some(pki::leaf(signer, names.to_vec(), now)?);
                    let before = self.leaf_issuer.replace(signer.certificate.clone());
                    // The webhooks serve the former leaf for a while yet, whatever became of its authority's key.
                    let known: Vec<_> =
                        self.retired.iter().chain([&signer.certificate]).map(|pem| pki::validity(pem)).collect();
                    let before = before.iter().flat_map(|pem| pki::each(pem));
                    self.retired.extend(before.filter(|pem| !known.contains(&pki::validity(pem))));
                }
            }
            Step::Drop => self.retired.clear(),
            Step::Publish | Step::Wait(_) => {}
        }
        Ok(())
    }

    fn authority_secret(&self, namespace: &str) -> Secret {
        let mut data = Data::new();
        let mut put = |key: &str, value: &str| data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
        for (pair, certificate, key) in [(&self.signer, "ca.crt", "ca.key"), (&self.next, "next.crt", "next.key")] {
            if let Some(pair) = pair {
                put(certificate, &pair.certificate);
                put(key, &pair.key);
            }
        }
        if !self.retired.is_empty() {
            put("retired.crt", &self.retired.concat());
        }
        secret(namespace, AUTHORITY_SECRET, "Opaque", data)
    }

    fn serving_secret(&self, namespace: &str) -> Secret {
        let mut data = Data::new();
        let mut put = |key: &str, value: &str| data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
        if let Some(leaf) = &self.leaf {
            put("tls.crt", &leaf.certificate);
            put("tls.key", &leaf.key);
        }
        if let Some(issuer) = &self.leaf_issuer {
            put("ca.crt", issuer);
        }
        secret(namespace, SERVING_SECRET, "kubernetes.io/tls", data)
    }
}

fn secret(namespace: &str, name: &str, type_: &str, data: Data) -> Secret {
    let (label, value) = MANAGED_BY;
    Secret {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([(label.to_owned(), value.to_owned())])),
            annotations: Some(BTreeMap::from([(OWNER.to_owned(), INSTALLATION.to_owned())])),
            ..ObjectMeta::default()
        },
        type_: Some(type_.to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        pki::names("wl", SERVICE_NAME)
    }

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    /// Steps until there is nothing to do but to publish or wait, through the Secrets each time.
    fn settle(
        mut material: Material,
        published: Option<BTreeSet<CertificateId>>,
        now: OffsetDateTime,
    ) -> (Material, Step) {
        for _ in 0..STEPS {
            let step = step::next_step(now.unix_timestamp(), &material.state(&names(), published.clone()));
            if matches!(step, Step::Publish | Step::Wait(_)) {
                return (material, step);
            }
            material.take(&step, &names(), now).unwrap();
            let data = |secret: Secret| secret.data.unwrap();
            material = Material::of(&data(material.authority_secret("wl")), &data(material.serving_secret("wl")));
        }
        panic!("no end of steps");
    }

    #[test]
    fn from_nothing_to_a_certificate_that_the_bundle_verifies() {
        let (material, step) = settle(Material::default(), None, now());
        assert!(matches!(step, Step::Wait(_)), "{step:?}");
        let leaf = material.state(&names(), None).leaf.unwrap();
        assert_eq!(trusted(material.bundle().as_bytes()), BTreeSet::from([leaf.issuer.id]));
    }

    #[test]
    fn a_corrupt_or_lost_authority_is_replaced_and_the_old_one_stays_trusted_until_then() {
        for corrupt in [None, Some(Pair { certificate: "junk".into(), key: "junk".into() })] {
            let (mut material, _) = settle(Material::default(), None, now());
            let before = trusted(material.bundle().as_bytes());
            material.signer = corrupt;
            let (material, step) = settle(material, Some(before.clone()), now());
            assert_eq!(step, Step::Publish);
            let both = trusted(material.bundle().as_bytes());
            assert_eq!(both.len(), 2);
            assert!(both.is_superset(&before));
            assert!(before.contains(&material.state(&names(), None).leaf.unwrap().issuer.id), "the old leaf is served");
            let (material, step) = settle(material, Some(both.clone()), now());
            assert!(matches!(step, Step::Wait(_)), "{step:?}");
            assert_eq!(trusted(material.bundle().as_bytes()), both, "the old leaf may still be served");
            let later = now() + time::Duration::seconds(step::OVERLAP);
            let (material, step) = settle(material, Some(both), later);
            assert_eq!(step, Step::Publish, "the lost authority is taken out of the bundle");
            let last = trusted(material.bundle().as_bytes());
            assert!(last.is_disjoint(&before));
            assert!(matches!(settle(material, Some(last), later).1, Step::Wait(_)));
        }
    }

    #[test]
    fn a_corrupt_serving_certificate_is_issued_again_by_the_same_authority() {
        let (mut material, _) = settle(Material::default(), None, now());
        let bundle = trusted(material.bundle().as_bytes());
        material.leaf = Some(Pair { certificate: "junk".into(), key: "junk".into() });
        let (material, step) = settle(material, Some(bundle.clone()), now());
        assert!(matches!(step, Step::Wait(_)), "{step:?}");
        assert_eq!(trusted(material.bundle().as_bytes()), bundle);
    }
}
