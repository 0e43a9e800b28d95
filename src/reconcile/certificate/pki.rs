//! Making and reading certificates and keys.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::super::hex;
use super::step::{AUTHORITY_LIFE, BACKDATE, LEAF_LIFE, Leaf, Validity};

/// A certificate and its private key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

// A key must not end up in a log line.
impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Names of the webhook's Service, as the API server and others call it.
pub fn names(namespace: &str, service: &str) -> Vec<String> {
    vec![format!("{service}.{namespace}.svc"), format!("{service}.{namespace}.svc.cluster.local")]
}

/// A new authority (ECDSA P-256), valid for a year.
///
/// # Errors
/// If the cryptography library refuses.
pub fn authority(now: OffsetDateTime) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    // Each authority has a subject of its own, so that a verifier that has two of them at hand picks the right one.
    let suffix = hex(&Sha256::digest(key.subject_public_key_info())).chars().take(12).collect::<String>();
    params.distinguished_name.push(DnType::CommonName, format!("weightlock webhook CA {suffix}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - Duration::seconds(BACKDATE);
    params.not_after = params.not_before + Duration::seconds(AUTHORITY_LIFE);
    let certificate = params.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// A new serving certificate (ECDSA P-256) for these names, valid for 90 days, but no longer than its authority.
///
/// # Errors
/// If the authority cannot be read, or the cryptography library refuses.
pub fn leaf(signer: &Pair, names: Vec<String>, now: OffsetDateTime) -> Result<Pair, rcgen::Error> {
    let issuer = Issuer::from_ca_cert_pem(&signer.certificate, KeyPair::from_pem(&signer.key)?)?;
    let key = KeyPair::generate()?;
    let common_name = names.first().cloned().unwrap_or_default();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - Duration::seconds(BACKDATE);
    params.not_after = params.not_before + Duration::seconds(LEAF_LIFE);
    if let Some(end) = validity(&signer.certificate).and_then(|v| OffsetDateTime::from_unix_timestamp(v.not_after).ok())
    {
        params.not_after = params.not_after.min(end);
    }
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// The validity of the first certificate in a PEM text; `None` if there is none that can be read.
pub fn validity(pem: &str) -> Option<Validity> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let certificate = parse(&der)?;
    Some(Validity {
        id: hex(&Sha256::digest(&der)),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
    })
}

/// The validity of an authority that can sign: its certificate is one of an authority, and its key fits.
pub fn usable_authority(pair: &Pair) -> Option<Validity> {
    let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).ok()?;
    let certificate = parse(&der)?;
    (certificate.is_ca() && fits(&certificate, &pair.key)).then(|| validity(&pair.certificate))?
}

/// A serving certificate that can be served: its key fits, and `issuer` signed it.
pub fn usable_leaf(pair: &Pair, issuer: &str, wanted: &[String]) -> Option<Leaf> {
    let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).ok()?;
    let certificate = parse(&der)?;
    let issuer_der = CertificateDer::from_pem_slice(issuer.as_bytes()).ok()?;
    let issuer_certificate = parse(&issuer_der)?;
    certificate.verify_signature(Some(issuer_certificate.public_key())).ok()?;
    if !fits(&certificate, &pair.key) {
        return None;
    }
    let mut found: Vec<String> = certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|extension| &extension.value.general_names)
        .into_iter()
        .flatten()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect();
    let mut wanted = wanted.to_vec();
    found.sort();
    wanted.sort();
    Some(Leaf { validity: validity(&pair.certificate)?, issuer: validity(issuer)?, named: found == wanted })
}

/// Every certificate of a PEM text that can be read, as PEM.
pub fn each(pem: &str) -> Vec<String> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .filter_map(Result::ok)
        .filter(|der| parse(der).is_some())
        .map(|der| encode(&der))
        .collect()
}

fn encode(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => Some(certificate),
        _ => None,
    }
}

fn fits(certificate: &X509Certificate<'_>, key: &str) -> bool {
    KeyPair::from_pem(key).is_ok_and(|key| key.subject_public_key_info() == certificate.public_key().raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    #[test]
    fn a_leaf_is_signed_by_its_authority_and_bears_the_names() {
        let ca = authority(now()).unwrap();
        let names = names("wl", "hook");
        let pair = leaf(&ca, names.clone(), now()).unwrap();
        let read = usable_leaf(&pair, &ca.certificate, &names).unwrap();
        assert!(read.named);
        assert_eq!(read.issuer, usable_authority(&ca).unwrap());
        assert_eq!(read.validity.not_before, now().unix_timestamp() - BACKDATE);
        assert_eq!(read.validity.not_after - read.validity.not_before, LEAF_LIFE);
        assert!(!usable_leaf(&pair, &ca.certificate, &super::names("other", "hook")).unwrap().named);
    }

    #[test]
    fn what_does_not_belong_together_is_not_usable() {
        let (ca, other) = (authority(now()).unwrap(), authority(now()).unwrap());
        let names = names("wl", "hook");
        let pair = leaf(&ca, names.clone(), now()).unwrap();
        assert_eq!(usable_leaf(&pair, &other.certificate, &names), None);
        let swapped = Pair { certificate: pair.certificate.clone(), key: other.key.clone() };
        assert_eq!(usable_leaf(&swapped, &ca.certificate, &names), None);
        assert_eq!(usable_authority(&Pair { certificate: ca.certificate.clone(), key: other.key }), None);
        assert_eq!(usable_authority(&pair), None, "a leaf is no authority");
        for garbage in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "\u{0}"] {
            assert_eq!(validity(garbage), None);
            assert_eq!(usable_authority(&Pair { certificate: garbage.into(), key: ca.key.clone() }), None);
        }
    }

    #[test]
    fn a_leaf_does_not_outlive_its_authority() {
        let ca = authority(now()).unwrap();
        let late = now() + Duration::days(340);
        let pair = leaf(&ca, names("wl", "hook"), late).unwrap();
        assert_eq!(validity(&pair.certificate).unwrap().not_after, validity(&ca.certificate).unwrap().not_after);
    }

    #[test]
    fn a_bundle_is_taken_apart() {
        let (a, b) = (authority(now()).unwrap().certificate, authority(now()).unwrap().certificate);
        let parts = each(&format!("{a}junk\n{b}"));
        assert_eq!(parts.iter().map(|p| validity(p)).collect::<Vec<_>>(), [validity(&a), validity(&b)]);
    }

    #[test]
    fn keys_stay_out_of_debug_output() {
        let ca = authority(now()).unwrap();
        assert!(!format!("{ca:?}").contains("PRIVATE"));
    }
}
