//! A pod together with what the world knows of it: computed once, read by every rule.

use super::pod::{Container, Kind, Pod};
use super::verifier::{REVERIFIER, VERIFIER};
use super::volumes::{self, Content};
use super::{download, gpu};
use crate::api::Mode;
use crate::domain::backend::BackendKey;
use crate::domain::lookup::Membership;
use crate::domain::world::{Artifact, Environment, World};

/// A pod in its namespace.
pub(super) struct Assessment<'a> {
    pub world: &'a World,
    pub namespace: &'a str,
    pub pod: Pod<'a>,
    pub membership: Membership<'a>,
    /// What is behind each volume, in the order of `pod.volumes`.
    pub contents: Vec<Vec<Content<'a>>>,
    /// Containers whose image is weights.
    pub images: Vec<WeightImage<'a>>,
    /// What it asks for, if it asks for a GPU.
    pub gpu: Option<String>,
    /// Whether it was decided when it was created, and is placed on a node now.
    pub waited: bool,
}

/// The image of a container that is weights.
pub(super) struct WeightImage<'a> {
    /// How a message calls the container.
    pub container: String,
    pub image: &'a str,
    /// By what it was found.
    pub key: BackendKey,
    pub artifacts: Vec<&'a Artifact>,
}

/// Registered storage in a volume of the pod.
pub(super) struct Weights<'p, 'a> {
    /// Name of the volume.
    pub volume: &'a str,
    /// How it was found.
    pub via: &'p str,
    /// Key of what is mounted; `None`: it arrives by download.
    pub key: Option<&'p BackendKey>,
    pub artifact: &'a Artifact,
}

impl<'a> Assessment<'a> {
    /// Reads a pod and looks its volumes up.
    ///
    /// # Errors
    /// What is malformed, as sentences.
    pub fn new(world: &'a World, namespace: &'a str, object: &'a serde_json::Value) -> Result<Self, Vec<String>> {
        let pod = Pod::read(object)?;
        let contents = pod.volumes.iter().map(|volume| match download::content(world, pod.annotations, volume) {
            Some(download) => vec![download],
            None => volumes::contents(world, namespace, &pod, volume),
        });
        let contents = contents.collect();
        let images = if world.registers_images() { images(world, &pod) } else { Vec::new() };
        let gpu = gpu::asked(&pod, &world.settings);
        Ok(Self {
            world,
            namespace,
            pod,
            membership: world.membership(namespace),
            contents,
            images,
            gpu,
            waited: false,
        })
    }

    /// The environment whose rules hold here.
    pub fn environment(&self) -> Option<&'a Environment> {
        self.membership.environment()
    }

    /// Whether the environment has verifiers injected.
    pub fn verifies(&self) -> bool {
        self.environment().is_some_and(|e| e.modes.verification == Mode::Enforce)
    }

    /// Every registered artifact in the volumes of the pod. A volume that no container mounts counts too: it is a mistake
    /// or a preparation.
    pub fn weights(&self) -> impl Iterator<Item = Weights<'_, 'a>> {
        self.pod.volumes.iter().zip(&self.contents).flat_map(|(volume, contents)| {
            contents.iter().flat_map(move |content| match content {
                Content::Storage { via, key, artifacts } => {
                    let found = artifacts.iter();
                    found.map(|artifact| Weights { volume: volume.name, via, key: Some(key), artifact }).collect()
                }
                Content::Download { via, artifact } => vec![Weights { volume: volume.name, via, key: None, artifact }],
                _ => Vec::new(),
            })
        })
    }

    /// Whether the pod holds weights.
    pub fn holds_weights(&self) -> bool {
        self.weights().next().is_some() || !self.images.is_empty()
    }

    /// Whether a volume of this name holds weights.
    pub fn is_weights(&self, volume: &str) -> bool {
        self.weights().any(|w| w.volume == volume)
    }

    /// Whether this pod is one of those that make an artifact.
    pub fn produces(&self, artifact: &Artifact) -> bool {
        self.world.produces(artifact, self.namespace, self.pod.service_account())
    }

    /// Whether weights are for reading only, whoever the pod is: they are sealed, and it is none that made them. Its
    /// mounts are then made read-only; those of a producer are refused instead, since it would fail later, and in the dark.
    pub fn only_read(&self, volume: &str) -> bool {
        let mut weights = self.weights().filter(|w| w.volume == volume).peekable();
        weights.peek().is_some() && weights.all(|w| w.artifact.sealed() && !self.produces(w.artifact))
    }

    /// Whether a container mounts or attaches weights other than those that it downloads.
    pub fn reads_weights(&self, container: &Container<'_>) -> bool {
        self.weights().any(|w| container.uses(w.volume) && !self.downloads_into(container, w.volume))
    }

    /// Whether an image fetches weights (`delivery.download.images`): as it is listed, or beneath a prefix that ends in "/".
    pub fn fetches(&self, image: &str) -> bool {
        let listed = self.environment().map(|e| e.downloaders.as_slice()).unwrap_or_default();
        listed.iter().any(|entry| if entry.ends_with('/') { image.starts_with(entry.as_str()) } else { image == entry })
    }

    /// Whether a container is an init container that fetches weights.
    pub fn is_downloader(&self, container: &Container<'_>) -> bool {
        container.kind == Kind::Init
            && ![VERIFIER, REVERIFIER].contains(&container.name)
            && self.fetches(container.image)
    }

    /// Whether a volume receives weights by download.
    pub fn is_download(&self, volume: &str) -> bool {
        self.weights().any(|w| w.volume == volume && w.key.is_none())
    }

    /// Whether a container fetches the weights of a volume.
    pub fn downloads_into(&self, container: &Container<'_>, volume: &str) -> bool {
        self.is_downloader(container) && self.is_download(volume)
    }

    /// Whether an image may run ahead of the verifier.
    pub fn trusts(&self, image: &str) -> bool {
        let trusted = self.environment().map(|e| e.trusted_init.as_slice()).unwrap_or_default();
        trusted.iter().any(|prefix| prefix.ends_with('/') && image.starts_with(prefix.as_str()))
    }
}

fn images<'a>(world: &'a World, pod: &Pod<'a>) -> Vec<WeightImage<'a>> {
    let containers = pod.containers.iter();
    let found = containers.filter_map(|container| Some((container, world.artifacts_of_image(container.image)?)));
    found
        .map(|(container, (key, artifacts))| WeightImage {
            container: format!("{} {:?}", container.kind.noun(), container.name),
            image: container.image,
            key,
            artifacts,
        })
        .collect()
}
